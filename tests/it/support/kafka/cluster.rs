//! Brokers for one test that breaks them.

use std::net::{Ipv4Addr, SocketAddr};

use super::broker::{Broker, Place};
use super::distribution::Distribution;
use super::{GIVEN, skip};

/// How often a cluster is begun anew, on other ports. Between the choice of a port and the start of
/// its broker somebody else may take it.
const TRIES: usize = 3;
/// How a broker says so.
const PORT_TAKEN: &str = "Address already in use";

/// Brokers, each a controller as well. They end with it, and with this process however that ends.
pub(crate) struct Cluster {
    distribution: &'static Distribution,
    // Before the places that they live in.
    running: Vec<Option<Broker>>,
    places: Vec<Place>,
}

impl Cluster {
    /// Starts `brokers` brokers at `host`; nothing where there is no Kafka that may be broken, which
    /// has been said then.
    pub(crate) fn start(host: Ipv4Addr, brokers: usize) -> Option<Self> {
        if !Self::is_possible() {
            return None;
        }
        Self::try_start(host, brokers).map_err(|reason| skip(&reason, false)).ok()
    }

    /// Whether there is a Kafka that may be broken; says so where there is none.
    pub(crate) fn is_possible() -> bool {
        if std::env::var_os(GIVEN).is_some() {
            skip(&format!("{GIVEN} names a cluster, which is not this test's to break"), true);
            return false;
        }
        Distribution::get().map_err(|reason| skip(&reason, false)).is_ok()
    }

    pub(super) fn try_start(host: Ipv4Addr, count: usize) -> Result<Self, String> {
        let distribution = Distribution::get()?;
        let mut tries = 1;
        loop {
            match Self::start_once(distribution, host, count) {
                Err(reason) if tries < TRIES && reason.contains(PORT_TAKEN) => tries += 1,
                done => return done,
            }
        }
    }

    fn start_once(
        distribution: &'static Distribution,
        host: Ipv4Addr,
        count: usize,
    ) -> Result<Self, String> {
        let places: Vec<Place> = (0..count).map(|_| Place::new(host)).collect::<Result<_, _>>()?;
        let mut running = Vec::new();
        for (index, place) in places.iter().enumerate() {
            place.prepare(distribution, index, &places)?;
            running.push(Some(Broker::start(distribution, place)?));
        }
        let mut cluster = Self { distribution, running, places };
        cluster.wait_for_all()?;
        Ok(cluster)
    }

    /// Where a client begins: all brokers.
    pub(crate) fn bootstrap(&self) -> String {
        self.places.iter().map(Place::address).collect::<Vec<_>>().join(",")
    }

    /// Where a client begins with one broker.
    pub(crate) fn address(&self, index: usize) -> String {
        self.places[index].address()
    }

    /// The same as a socket's address.
    pub(crate) fn socket(&self, index: usize) -> SocketAddr {
        self.places[index].address().parse().expect("an address")
    }

    /// Ends a broker without notice.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.running[index].take().expect("the broker runs"));
    }

    /// Stops a broker in the middle of whatever it does.
    pub(crate) fn pause(&self, index: usize) {
        self.broker(index).pause(true);
    }

    /// Lets a stopped broker go on.
    pub(crate) fn resume(&self, index: usize) {
        self.broker(index).pause(false);
    }

    /// Starts a broker that was killed, with its old folder and ports.
    pub(crate) fn restart(&mut self, index: usize) {
        let started = Broker::start(self.distribution, &self.places[index]);
        self.running[index] = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Waits until all brokers answer and know of each other.
    pub(crate) fn wait(&mut self) {
        self.wait_for_all().unwrap_or_else(|error| panic!("not all brokers are there: {error}"));
    }

    fn wait_for_all(&mut self) -> Result<(), String> {
        let count = self.places.len();
        for (broker, place) in self.running.iter_mut().zip(&self.places) {
            broker.as_mut().ok_or("a broker was killed")?.wait_until_seen(place, count)?;
        }
        Ok(())
    }

    /// The end of what each broker logged.
    pub(crate) fn last_words(&self) -> String {
        let words = |place: &Place| format!("{} logged:\n{}", place.address(), place.last_words());
        self.places.iter().map(words).collect::<Vec<_>>().join("\n")
    }

    fn broker(&self, index: usize) -> &Broker {
        self.running[index].as_ref().expect("the broker runs")
    }
}
