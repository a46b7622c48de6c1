//! A small network of its own for the nodes of a test: each in a network namespace, all on one
//! bridge, and any two of them can be cut from each other.
//!
//! Needs root and iproute2. Where that is missing nodes run on loopback, and nothing is cut.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::soon;

/// How long one try to reach somebody takes at most.
const TRY_FOR: Duration = Duration::from_secs(1);

/// The network, taken down when dropped.
pub(crate) struct Lan {
    tag: String,
    nodes: usize,
}

/// The second byte of all addresses, so that two test processes do not share a network.
fn subnet() -> u8 {
    (std::process::id() % 250) as u8
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip {arguments}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Lan {
    /// A network with `nodes` hosts beside this one. Errors: why this machine has none.
    pub(crate) fn new(tag: &str, nodes: usize) -> Result<Self, String> {
        let lan = Self { tag: format!("{tag}{}", std::process::id()), nodes };
        let bridge = lan.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        for host in [lan.here(), lan.kafka()] {
            ip(&format!("addr add {host}/24 dev {bridge}"))?;
        }
        ip(&format!("link set {bridge} up"))?;
        for node in 0..nodes {
            let name = lan.name(node);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set {name} master {bridge} up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", lan.node(node)))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(lan)
    }

    /// Waits until all hosts reach `address`, where somebody listens: that this host does says nothing
    /// of the way there. Fails the test with what the network looks like.
    pub(crate) fn wait_until_reached(&self, address: SocketAddr) {
        for node in 0..self.nodes {
            let reached = thread::scope(|scope| {
                scope.spawn(|| self.reaches(node, address)).join().expect("it does not panic")
            });
            assert!(reached, "{} does not reach {address}:\n{}", self.name(node), self.look(node));
        }
    }

    /// Takes its thread to the host, which never comes back.
    fn reaches(&self, node: usize, address: SocketAddr) -> bool {
        let name = format!("/run/netns/{}", self.name(node));
        let namespace = File::open(name).expect("a host of this network");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a thread can go there");
        soon(|| TcpStream::connect_timeout(&address, TRY_FOR).is_ok())
    }

    /// What there is to see of the way between this host and `node`.
    pub(crate) fn look(&self, node: usize) -> String {
        let (bridge, name) = (self.bridge(), self.name(node));
        let seen = [
            format!("-d -s link show master {bridge}"),
            format!("address show dev {bridge}"),
            format!("neighbour show dev {bridge}"),
            format!("-n {name} -s address"),
            format!("-n {name} route"),
            format!("-n {name} neighbour"),
        ];
        let seen = seen.map(|question| {
            let output = Command::new("ip").args(question.split(' ')).output();
            let output = output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            );
            format!("ip {question}\n{output}")
        });
        seen.join("\n")
    }

    fn bridge(&self) -> String {
        format!("b{}", self.tag)
    }

    /// The namespace of a node.
    pub(crate) fn name(&self, node: usize) -> String {
        format!("n{node}{}", self.tag)
    }

    /// Where this process is reached.
    pub(crate) fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, subnet(), self.third(), 1)
    }

    /// Where the brokers are reached: another address, so that they can be cut off alone.
    pub(crate) fn kafka(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, subnet(), self.third(), 2)
    }

    /// Where a node is reached.
    pub(crate) fn node(&self, node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, subnet(), self.third(), 11 + node as u8)
    }

    /// Several networks of one process differ by their tags.
    fn third(&self) -> u8 {
        self.tag.bytes().next().unwrap_or_default()
    }

    /// Nothing goes from `node` to `address` any more: packets are dropped, nobody is told.
    pub(crate) fn cut(&self, node: usize, address: Ipv4Addr) {
        ip(&format!("-n {} route add blackhole {address}/32", self.name(node)))
            .expect("a route can be cut");
    }

    /// Everything goes again.
    pub(crate) fn heal(&self) {
        for node in 0..self.nodes {
            // Whatever was not cut is not there.
            let _ = ip(&format!("-n {} route flush type blackhole", self.name(node)));
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // A namespace takes its link along some time later, and the next network wants the name.
            let _ = ip(&format!("link del {}", self.name(node)));
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}
