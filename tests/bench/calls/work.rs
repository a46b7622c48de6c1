//! What is asked: a ring of accounts, each a friend of those near by, with strangers further away.

use std::io::Write;

use super::load::Request;

/// Strangers begin so many places on.
const STRANGERS: u64 = 1_000;
/// Prime and larger than the ring: numbers in a row are of owners far apart, each once in a round.
const STRIDE: u64 = 2_654_435_761;
/// Accounts of one call, when they are made.
const IMPORTED: u64 = 100;

/// How large the ring is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub(super) accounts: u64,
    /// Friends of each account, half of them on either side.
    pub(super) friends: u64,
    /// Whom each account blocks from the beginning.
    pub(super) blocks: u64,
    /// Accounts besides that block nobody yet, for long batches.
    pub(super) blank: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// A friend is blocked: durable, and both sides change.
    Block,
    /// Is one blocked by the other, or the other way round?
    Check,
    /// The first page of a blocklist.
    List,
    /// Nine checks, and one block of a friend.
    Mixed,
    /// Two become friends.
    Befriend,
    /// So many strangers are blocked in one call.
    Batch(u64),
}

impl Work {
    /// Its name in tables.
    pub(super) fn name(self) -> String {
        match self {
            Self::Block => "block a friend".to_owned(),
            Self::Check => "check a pair".to_owned(),
            Self::List => "list, first 30".to_owned(),
            Self::Mixed => "9 checks, 1 block".to_owned(),
            Self::Befriend => "friend_add".to_owned(),
            Self::Batch(targets) => format!("block {targets} in one call"),
        }
    }

    /// Whether the server that keeps nothing has an answer to it.
    pub(super) fn suits_noop(self) -> bool {
        !matches!(self, Self::List | Self::Befriend)
    }
}

/// The requests of one server, each of which it gets once.
pub(super) struct Writer {
    ring: Ring,
    /// Blocks, checks, lists, friendships, and batches that were written.
    counts: [u64; 5],
    /// Those who have had a long batch.
    blank: u64,
    /// The server keeps nothing: nothing can run out, and nothing is true.
    keeps: bool,
}

fn name(index: u64) -> String {
    format!("u{index:07}")
}

impl Writer {
    pub(super) fn new(ring: Ring, keeps: bool) -> Self {
        Self { ring, counts: [0; 5], blank: 0, keeps }
    }

    /// Looks up the blocks from number `first` on.
    pub(super) fn looking_up(ring: Ring, first: u64) -> Self {
        Self { counts: [first, 0, 0, 0, 0], ..Self::new(ring, true) }
    }

    /// How many blocks were written, or looked up.
    pub(super) fn blocks(&self) -> u64 {
        self.counts[0]
    }

    /// Asks for the next block: is it there?
    pub(super) fn look_up(&mut self, request: &mut Request) -> bool {
        let (number, owner) = self.number(0);
        let friend = self.around(owner, 1 + number / self.ring.accounts);
        let rest = r#","CheckType":"BlackCheckResult_Type_Single""#;
        one(request, "sns/black_list_check", owner, std::iter::once(friend), rest);
        request.expected = "BlackCheckResult_Type_AWithB";
        request.unwanted = None;
        true
    }

    fn number(&mut self, which: usize) -> (u64, u64) {
        let number = self.counts[which];
        self.counts[which] += 1;
        (number, number.wrapping_mul(STRIDE) % self.ring.accounts)
    }

    fn around(&self, owner: u64, steps: u64) -> u64 {
        (owner + steps) % self.ring.accounts
    }

    /// Writes the next request; answers whether there is one.
    pub(super) fn write(&mut self, work: Work, request: &mut Request) -> bool {
        match work {
            Work::Block => self.block(request),
            Work::Check => self.check(request),
            Work::List => self.list(request),
            Work::Mixed if (self.counts[1] + self.counts[0]) % 10 == 9 => self.block(request),
            Work::Mixed => self.check(request),
            Work::Befriend => self.befriend(request),
            Work::Batch(targets) => self.batch(targets, request),
        }
    }

    fn block(&mut self, request: &mut Request) -> bool {
        let (number, owner) = self.number(0);
        let lap = number / self.ring.accounts;
        let friends = self.ring.friends / 2;
        if self.keeps && lap >= friends {
            return false;
        }
        let friend = self.around(owner, 1 + lap % friends.max(1));
        one(request, "sns/black_list_add", owner, std::iter::once(friend), "");
        done(request);
        true
    }

    fn check(&mut self, request: &mut Request) -> bool {
        let (number, owner) = self.number(1);
        // Half of them are blocked.
        let step = number % (2 * self.ring.blocks.max(1));
        let other = self.around(owner, STRANGERS + step);
        let rest = r#","CheckType":"BlackCheckResult_Type_Both""#;
        one(request, "sns/black_list_check", owner, std::iter::once(other), rest);
        request.unwanted = None;
        request.expected = match self.keeps && step < self.ring.blocks {
            true => "BlackCheckResult_Type_AWithB",
            false => "BlackCheckResult_Type_NO",
        };
        true
    }

    fn list(&mut self, request: &mut Request) -> bool {
        let (_, owner) = self.number(2);
        request.command = "sns/black_list_get";
        request.body.clear();
        let account = name(owner);
        write!(
            request.body,
            r#"{{"From_Account":"{account}","StartIndex":0,"MaxLimited":30,"LastSequence":0}}"#
        )
        .expect("memory takes it");
        request.expected = r#""AddBlackTimeStamp""#;
        request.unwanted = None;
        true
    }

    fn befriend(&mut self, request: &mut Request) -> bool {
        let (number, owner) = self.number(3);
        let lap = number / self.ring.accounts;
        if lap >= STRANGERS / 4 {
            return false;
        }
        let (owner, other) = (name(owner), name(self.around(owner, STRANGERS / 2 + lap)));
        request.command = "sns/friend_add";
        request.body.clear();
        write!(
            request.body,
            r#"{{"From_Account":"{owner}","AddFriendItem":[{{"To_Account":"{other}","AddSource":"AddSource_Type_Bench"}}]}}"#
        )
        .expect("memory takes it");
        done(request);
        true
    }

    /// A list that has room for all of them.
    fn batch(&mut self, targets: u64, request: &mut Request) -> bool {
        self.counts[4] += 1;
        let owner = self.ring.accounts + self.blank % self.ring.blank;
        let lap = self.blank / self.ring.blank;
        self.blank += 1;
        if self.keeps && lap > 0 {
            return false;
        }
        let strangers = (0..targets).map(|step| (owner + step) % self.ring.accounts);
        one(request, "sns/black_list_add", owner, strangers, "");
        done(request);
        true
    }
}

fn one(
    request: &mut Request,
    command: &'static str,
    owner: u64,
    others: impl Iterator<Item = u64>,
    rest: &str,
) {
    request.command = command;
    let body = &mut request.body;
    body.clear();
    let owner = name(owner);
    write!(body, r#"{{"From_Account":"{owner}","To_Account":["#).expect("memory takes it");
    for (index, other) in others.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let other = name(other);
        write!(body, r#"{comma}"{other}""#).expect("memory takes it");
    }
    write!(body, "]{rest}}}").expect("memory takes it");
}

fn done(request: &mut Request) {
    request.expected = r#""ErrorCode":0"#;
    request.unwanted = Some("Fail_Account");
}

/// Writes one request after the other; answers whether there was one more.
pub(super) type Requests = Box<dyn FnMut(&mut Request) -> bool>;

/// The requests that make the ring, in the order in which they must be done: accounts, friendships,
/// blocks.
pub(super) fn seeds(ring: Ring) -> [Requests; 3] {
    let all = ring.accounts + ring.blank;
    let mut made = 0;
    let accounts = move |request: &mut Request| {
        if made >= all {
            return false;
        }
        request.command = "im_open_login_svc/multiaccount_import";
        let names: Vec<String> = (made..all.min(made + IMPORTED)).map(name).collect();
        request.body.clear();
        serde_json::to_writer(&mut request.body, &serde_json::json!({ "Accounts": names }))
            .expect("memory takes it");
        request.expected = r#""ErrorCode":0"#;
        request.unwanted = None;
        made += IMPORTED;
        true
    };
    let mut owner = 0;
    let friendships = move |request: &mut Request| {
        if owner >= ring.accounts || ring.friends == 0 {
            return false;
        }
        let half = ring.friends / 2;
        let near = (1..=half).chain(ring.accounts - half..ring.accounts);
        let items: Vec<_> = near
            .map(|step| {
                let friend = name((owner + step) % ring.accounts);
                serde_json::json!({ "To_Account": friend, "AddSource": "AddSource_Type_Bench" })
            })
            .collect();
        request.command = "sns/friend_import";
        let body = serde_json::json!({ "From_Account": name(owner), "AddFriendItem": items });
        request.body.clear();
        serde_json::to_writer(&mut request.body, &body).expect("memory takes it");
        done(request);
        owner += 1;
        true
    };
    let mut blocker = 0;
    let blocks = move |request: &mut Request| {
        if blocker >= ring.accounts || ring.blocks == 0 {
            return false;
        }
        let strangers = (0..ring.blocks).map(|step| (blocker + STRANGERS + step) % ring.accounts);
        one(request, "sns/black_list_add", blocker, strangers, "");
        done(request);
        blocker += 1;
        true
    };
    [Box::new(accounts), Box::new(friendships), Box::new(blocks)]
}
