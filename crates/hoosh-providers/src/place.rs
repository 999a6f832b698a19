//! Whether an address is on this machine or network.

use std::net::{IpAddr, Ipv4Addr};

/// Endings of names that no public resolver answers: RFC 6761, RFC 6762, RFC 8375, and `internal` by ICANN's resolution of
/// 2024-07-29.
const NEAR_NAMES: [&str; 4] = ["localhost", "local", "internal", "home.arpa"];

/// Whether a host of a URL is surely on this machine or network: by its address, or by a name that has no meaning beyond.
/// Names are not looked up: what they mean may change after the look.
pub(crate) fn is_near(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // A dot at the end says that a name is whole: one without another is of the top of all names, and some of those answer.
    let (host, is_whole) = host.strip_suffix('.').map_or((host, false), |host| (host, true));
    match host.parse::<IpAddr>() {
        Ok(address) => is_near_address(address.to_canonical()),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            let ends = |name: &&str| {
                host.strip_suffix(*name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            // A name without a dot is one of the machine's own network or hosts file (a container's, for instance). What begins
            // with a digit may be an address in another form, `134744072` or `0x08080808`, which resolvers read.
            let is_number = host.starts_with(|first: char| first.is_ascii_digit());
            (!host.contains('.') && !is_whole && !is_number && !host.is_empty())
                || NEAR_NAMES.iter().any(ends)
        }
    }
}

fn is_near_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is not routed in public (RFC 6598); virtual private networks give out of it.
            let is_shared = u32::from(address) & 0xffc0_0000 == u32::from(Ipv4Addr::new(100, 64, 0, 0));
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_this_network_are_near() {
        for host in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "192.168.0.9",
            "172.31.0.1",
            "169.254.1.1",
            "100.100.1.1",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "gpu.localhost",
            "box",
            "Box.LOCAL",
            "box.local.",
            "localhost.",
            "127.0.0.1.",
            "host.docker.internal",
            "nas.home.arpa",
        ] {
            assert!(is_near(host), "{host}");
        }
        for host in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.169.0.1",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "ollama.com",
            "gpu.example.com",
            "notlocal.xlocal",
            "local.example",
            "127.0.0.1.nip.io",
            "134744072",
            "0x08080808",
            "010.8.8.8",
            "3com",
            "ai.",
            "box.",
            "8.8.8.8.",
            "",
        ] {
            assert!(!is_near(host), "{host}");
        }
    }
}
