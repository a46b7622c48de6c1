//! A small network of its own for the nodes of a test: each in a network namespace, all on one
//! bridge, and any two of them can be cut from each other.
//!
//! Needs root and iproute2. Where that is missing nodes run on loopback, and nothing is cut.

use std::net::Ipv4Addr;
use std::process::Command;

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
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}
