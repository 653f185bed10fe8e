//! `backstay keys`: makes, lists and revokes API keys.

use anyhow::bail;
use backstay_server::auth;
use backstay_store::{RegistryStore, sqlite::SqliteRegistry};

use super::{fill_random, now_ms, store_path};
use crate::{
    cli::{KeysAction, KeysArgs},
    exit::Exit,
    render,
};

pub(crate) fn run(args: &KeysArgs) -> anyhow::Result<Exit> {
    let mut registry = SqliteRegistry::open(store_path(&args.dir)?)?;
    match &args.action {
        KeysAction::Create { name } => {
            if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                bail!("a key's name has 1 to 64 characters and no line breaks");
            }
            let mut random = [0; 24];
            fill_random(&mut random)?;
            let (key, row) = auth::make(name, &random, now_ms());
            registry.key_create(&row)?;
            render::key_made(&key, &row, args.json)?;
        }
        KeysAction::List => render::keys(&registry.key_list()?, args.json)?,
        KeysAction::Revoke { key } => match registry.key_revoke(key, now_ms())? {
            Some(row) => render::key_revoked(&row, args.json)?,
            None => bail!("there is no key `{key}` in force; `backstay keys list` lists them"),
        },
    }
    Ok(Exit::Ok)
}
