//! A UDP socket that knows to which of its addresses a datagram came, and answers from there.
//!
//! Only a socket on the unspecified address has to ask the kernel (IP_PKTINFO); others have one address.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{
    recvmsg, sendmsg, setsockopt, sockopt, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Largest datagram: the length field of UDP has 16 bits.
pub const MAX_BYTES: usize = 65_535;

/// The socket of a UDP listener.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: UdpSocket,
    address: SocketAddr,
}

/// Who sent a datagram to which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client, as the socket names it.
    pub client: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

impl ListeningSocket {
    /// Take over a bound socket.
    ///
    /// # Errors
    /// The socket cannot be set up.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        if address.ip().is_unspecified() {
            if address.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            address,
        })
    }

    /// Wait for a datagram; its length.
    ///
    /// # Errors
    /// As of the socket.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
        if !self.address.ip().is_unspecified() {
            let (length, client) = self.socket.recv_from(buffer).await?;
            let local = self.address;
            return Ok((length, Ends { client, local }));
        }
        self.socket
            .async_io(Interest::READABLE, || self.receive_with_address(buffer))
            .await
    }

    fn receive_with_address(&self, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let mut local = self.address;
        for entry in message.cmsgs()? {
            match entry {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local.set_ip(IpAddr::from(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local.set_ip(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
        }
        let client = message.address.as_ref().and_then(address_of);
        let client = client.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((message.bytes, Ends { client, local }))
    }

    /// Send a datagram back; lost when the socket takes none now, as datagrams are.
    ///
    /// # Errors
    /// As of the socket.
    pub async fn send(&self, bytes: &[u8], ends: Ends) -> io::Result<usize> {
        if !self.address.ip().is_unspecified() {
            return self.socket.send_to(bytes, ends.client).await;
        }
        self.socket
            .async_io(Interest::WRITABLE, || self.send_from(bytes, ends))
            .await
    }

    fn send_from(&self, bytes: &[u8], ends: Ends) -> io::Result<usize> {
        let slices = [IoSlice::new(bytes)];
        let to = SockaddrStorage::from(ends.client);
        let fd = self.socket.as_raw_fd();
        let sent = match ends.local.ip() {
            IpAddr::V4(address) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(address).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &slices, &control, MsgFlags::empty(), Some(&to))
            }
            IpAddr::V6(address) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: address.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &slices, &control, MsgFlags::empty(), Some(&to))
            }
        };
        Ok(sent?)
    }
}

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::from(v4.ip()), v4.port()));
    }
    let v6 = storage.as_sockaddr_in6()?;
    // With its scope, so that an answer finds back to a link-local client.
    Some(SocketAddr::from(std::net::SocketAddrV6::new(
        v6.ip(),
        v6.port(),
        v6.flowinfo(),
        v6.scope_id(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        for (bind, asked) in [
            ("0.0.0.0:0", "127.0.0.5"),
            ("[::]:0", "::1"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let Ok(socket) = std::net::UdpSocket::bind(bind) else {
                // No IPv6 here.
                continue;
            };
            let listening = ListeningSocket::new(socket).expect("socket");
            let target = SocketAddr::new(asked.parse().expect("address"), listening.address.port());
            let client = std::net::UdpSocket::bind(SocketAddr::new(target.ip(), 0)).expect("client");
            client.connect(target).expect("connect");
            client.send(b"ping").expect("send");
            let mut buffer = vec![0; MAX_BYTES];
            let (length, ends) = listening.receive(&mut buffer).await.expect("datagram");
            assert_eq!((&buffer[..length], ends.local), (b"ping".as_slice(), target));
            assert_eq!(ends.client, client.local_addr().expect("address"));
            listening.send(b"pong", ends).await.expect("answer");
            let length = client.recv(&mut buffer).expect("answer");
            assert_eq!(&buffer[..length], b"pong");
        }
    }
}
