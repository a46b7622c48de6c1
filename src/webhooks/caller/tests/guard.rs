//! Where a call may go.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};

use actix_service::Service;
use actix_tls::connect::ConnectInfo;
use awc::http::Uri;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};

use super::*;
use crate::webhooks::guard::{Guard, Subnet};

fn guard(allowed: &[(Ipv4Addr, u8)]) -> Guard {
    let subnets = allowed.iter().map(|(base, prefix)| Subnet::new((*base).into(), *prefix));
    Guard::On { allowed: subnets.map(|subnet| subnet.expect("a subnet")).collect() }
}

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Names that lead where a test says, and who asked for them.
#[derive(Default)]
struct Names {
    known: Vec<Ipv4Addr>,
    /// It never answers.
    hangs: bool,
    asked: RefCell<Vec<(String, u16)>>,
}

impl Resolve for Names {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn std::error::Error>>> {
        self.asked.borrow_mut().push((host.to_owned(), port));
        if self.hangs {
            return std::future::pending().boxed_local();
        }
        let found = self.known.iter().map(|ip| SocketAddr::new((*ip).into(), port)).collect();
        async move { Ok(found) }.boxed_local()
    }
}

fn guarded_caller(url: &str, guard: Guard, names: Rc<Names>, bounds: Bounds) -> Caller {
    Caller::with_names(&Subscription { guard, ..subscription(url) }, bounds, 4, None, names)
}

#[actix_web::test]
async fn a_literal_address_that_is_not_public_is_not_called() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let call = async |guard| {
        attempt(&guarded_caller(&receiver.url(), guard, Rc::default(), bounds())).await
    };
    let refused = Outcome::Guarded(Guarded::Address(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(call(guard(&[])).await, refused);
    assert_eq!(receiver.heard().len(), 0);
    assert_eq!(call(guard(&[LOOPBACK])).await, Outcome::Delivered);
    assert_eq!(call(Guard::Off).await, Outcome::Delivered);
}

#[actix_web::test]
async fn a_literal_is_judged_where_the_connection_is_made_too() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let door = Door::new(guard(&[]), Rc::<Names>::default());
    let uri: Uri = receiver.url().parse().expect("a URL");
    let refused = within("an answer", door.call(ConnectInfo::new(uri))).await.map(|_| ());
    let Err(actix_tls::connect::ConnectError::Resolver(error)) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.is::<Guarded>(), "{error}");
}

#[actix_web::test]
async fn a_host_in_a_notation_of_its_own_is_not_even_looked_up() {
    let names = Rc::new(Names { known: vec![PUBLIC], ..Names::default() });
    for url in ["http://127.1/", "http://0x7f000001/", "http://receiver.example./"] {
        let caller = guarded_caller(url, guard(&[LOOPBACK]), Rc::clone(&names), bounds());
        assert_eq!(attempt(&caller).await, Outcome::Guarded(Guarded::Host), "{url}");
    }
    assert_eq!(*names.asked.borrow(), []);
}

/// What comes of a call to a name that leads to `known`, and how many lookups it took.
async fn call_by_name(
    known: &[Ipv4Addr],
    allowed: &[(Ipv4Addr, u8)],
    url: &str,
) -> (Outcome, usize) {
    let names = Rc::new(Names { known: known.to_vec(), ..Names::default() });
    let caller = guarded_caller(url, guard(allowed), Rc::clone(&names), bounds());
    let outcome = attempt(&caller).await;
    let asked = names.asked.borrow().len();
    (outcome, asked)
}

#[actix_web::test]
async fn a_name_that_leads_to_the_inside_at_all_is_not_called() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "receiver.example");
    let home = Ipv4Addr::LOCALHOST;
    let refused = |ip: Ipv4Addr| (Outcome::Guarded(Guarded::Address(ip.into())), 1);
    for (known, allowed, expected) in [
        (&[home][..], &[][..], refused(home)),
        (&[home, PUBLIC], &[], refused(home)),
        (&[PUBLIC, home], &[], refused(home)),
        (&[home, PRIVATE], &[LOOPBACK], refused(PRIVATE)),
        (&[home, PUBLIC, PRIVATE], &[LOOPBACK], refused(PRIVATE)),
    ] {
        assert_eq!(call_by_name(known, allowed, &url).await, expected, "{known:?}");
    }
    // Also one behind those that would be tried.
    let many = [vec![home; 20], vec![PRIVATE]].concat();
    assert_eq!(call_by_name(&many, &[LOOPBACK], &url).await, refused(PRIVATE));
    assert_eq!(receiver.heard().len(), 0);
    let delivered = (Outcome::Delivered, 1);
    assert_eq!(call_by_name(&[home], &[LOOPBACK], &url).await, delivered);
}

#[actix_web::test]
async fn a_name_without_an_address_is_unreachable() {
    let (outcome, _) = call_by_name(&[], &[], "http://receiver.example/").await;
    assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
}

#[actix_web::test]
async fn the_names_of_the_system_are_judged_like_any_others() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let call = async |guard| {
        let caller = Caller::new(&Subscription { guard, ..subscription(&url) }, bounds(), 4, None);
        attempt(&caller).await
    };
    let outcome = call(guard(&[])).await;
    let Outcome::Guarded(Guarded::Address(address)) = outcome else { panic!("{outcome:?}") };
    assert!(address.is_loopback());
    // Nobody listens on the other one that it may lead to.
    assert_eq!(call(Guard::Off).await, Outcome::Delivered);
    let outcome = attempt(&caller("http://does-not-exist.invalid/", bounds())).await;
    let Outcome::Unreachable { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("the name is not found: "), "{reason}");
}

#[actix_web::test]
async fn the_other_end_of_the_connection_is_judged_too() {
    let receiver = Receiver::start(|_| Answer::Ok);
    // The system leads this address to the loopback one.
    let url = receiver.url().replace("127.0.0.1", "0.0.0.0");
    let call = async |allowed: &[(Ipv4Addr, u8)]| {
        attempt(&guarded_caller(&url, guard(allowed), Rc::default(), bounds())).await
    };
    let unspecified = (Ipv4Addr::UNSPECIFIED, 32);
    let refused = Outcome::Guarded(Guarded::Address(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(call(&[unspecified]).await, refused);
    assert_eq!(receiver.heard().len(), 0);
    assert_eq!(call(&[unspecified, LOOPBACK]).await, Outcome::Delivered);
}

#[actix_web::test]
async fn an_address_that_fails_gives_way_to_the_next_one() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let url = receiver.url().replace("127.0.0.1", "receiver.example");
    // Nobody listens at the first.
    let known = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST];
    assert_eq!(call_by_name(&known, &[LOOPBACK], &url).await, (Outcome::Delivered, 1));
}

#[actix_web::test]
async fn calls_that_need_the_same_name_wait_for_one_lookup_within_their_bound() {
    let names = Rc::new(Names { hangs: true, ..Names::default() });
    let soon = Bounds { connect: SOON, ..bounds() };
    let url = "http://receiver.example/";
    let caller = guarded_caller(url, guard(&[]), Rc::clone(&names), soon);
    for _ in 0..2 {
        let outcomes = join_all((0..3).map(|_| attempt(&caller))).await;
        assert_eq!(outcomes, [Outcome::TimedOut, Outcome::TimedOut, Outcome::TimedOut]);
    }
    assert_eq!(*names.asked.borrow(), [("receiver.example".to_owned(), 80)]);
}
