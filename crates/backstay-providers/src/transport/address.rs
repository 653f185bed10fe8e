//! Which addresses belong to a private network: the guard against a name that leads inside.
//!
//! Pure: it looks at an address and nothing else. It must not resolve names or read options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is not on the public internet: loopback, private, link-local (with the metadata
/// services of clouds), carrier NAT, unspecified, multicast, reserved, or an IPv6 form of one of them.
///
/// Ranges: IANA special-purpose address registries (RFC 6890 and successors).
#[must_use]
pub fn is_private_network(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0 // "this network", with the unspecified address
        || (a == 100 && b & 0xc0 == 64) // 100.64.0.0/10, carrier NAT
        || (a == 192 && b == 0 && c == 0) // 192.0.0.0/24, protocol assignments
        || (a == 198 && b & 0xfe == 18) // 198.18.0.0/15, benchmarks
        || a >= 240 // reserved, with the broadcast address
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || embedded_v4(address).is_some_and(is_private_v4)
}

/// The IPv4 address that a packet to `address` ends up at: mapped (`::ffff:0:0/96`), compatible
/// (`::/96`), NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(pair(high, low))
        }
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_told_from_the_internet() {
        let table = [
            ("127.0.0.1", true),
            ("127.255.255.254", true),
            ("10.0.0.1", true),
            ("172.15.255.255", false),
            ("172.16.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("192.167.255.255", false),
            ("169.254.169.254", true),
            ("169.253.0.1", false),
            ("100.63.255.255", false),
            ("100.64.0.1", true),
            ("100.127.255.255", true),
            ("100.128.0.1", false),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("192.0.0.170", true),
            ("192.0.1.1", false),
            ("198.17.255.255", false),
            ("198.18.0.1", true),
            ("198.19.255.255", true),
            ("198.20.0.1", false),
            ("224.0.0.1", true),
            ("239.255.255.255", true),
            ("240.0.0.1", true),
            ("255.255.255.255", true),
            ("8.8.8.8", false),
            ("104.18.7.192", false),
            ("::", true),
            ("::1", true),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("ff02::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("::ffff:8.8.8.8", false),
            ("::10.0.0.1", true),
            ("64:ff9b::10.0.0.1", true),
            ("64:ff9b::8.8.8.8", false),
            ("2002:a00:1::1", true),
            ("2002:808:808::1", false),
            ("2606:4700::6812:7c0", false),
        ];
        for (address, private) in table {
            assert_eq!(is_private_network(address.parse().unwrap()), private, "{address}");
        }
    }
}
