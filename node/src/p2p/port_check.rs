//! Finds out that somebody listens on a TCP port already. libp2p shares its listening ports with any
//! other socket of the same user that does so too, which another node does; connections would then
//! come here or there by chance.

use std::io;
use std::net::SocketAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// Binds the port without sharing it, and lets it go again. Other addresses than TCP pass: the
/// system refuses a second socket there.
///
/// # Errors
/// As the system says.
pub(super) fn check(address: &Multiaddr) -> io::Result<()> {
    let Some(address) = tcp_address(address) else { return Ok(()) };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    // Connections of a node that has just ended do not count.
    set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &address)?)
}

fn tcp_address(address: &Multiaddr) -> Option<SocketAddr> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] => Some((*ip, *port).into()),
        [Protocol::Ip6(ip), Protocol::Tcp(port)] => Some((*ip, *port).into()),
        [..] => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use futures::StreamExt as _;
    use libp2p::core::transport::{ListenerId, Transport as _};
    use libp2p::tcp::tokio::Transport;

    use super::check;

    #[tokio::test]
    async fn a_port_that_libp2p_would_share_is_found_taken() {
        let mut first = Transport::default().boxed();
        first.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let event = first.next().await.unwrap();
        let address = event.into_new_address().unwrap();
        let mut second = Transport::default().boxed();
        assert!(second.listen_on(ListenerId::next(), address.clone()).is_ok(), "it is shared");
        drop(second);
        assert_eq!(check(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
        let everywhere = address.to_string().replace("127.0.0.1", "0.0.0.0").parse().unwrap();
        assert_eq!(check(&everywhere).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        check(&address).unwrap();
        check(&"/ip6/::1/tcp/0".parse().unwrap()).unwrap_or_default();
        check(&"/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap()).unwrap();
    }
}
