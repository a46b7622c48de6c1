//! What the node says that its users take in memory, held against what it takes: the bound on it is
//! worth as much as the count.

use std::thread;

use serde_json::{Value, json};

use crate::support::{Caller, Setup, TestProcess, names, verify};

/// Accounts, and how many of the first are none of the count: they warm what is not the users' own.
const USERS: usize = 2_000;
const FIRST: usize = 200;
/// One among so many has lists, and how long they are.
const LISTED: usize = 10;
const FRIENDS: usize = 30;
const BLOCKS: usize = 100;
/// Who makes them at once, so that they share the disk's time.
const CALLERS: usize = 8;
/// As many accounts as a call takes.
const AT_ONCE: usize = 100;

/// Gives `user` friends with remarks, and blocks.
fn befriend_and_block(caller: &mut Caller, user: &str, friends: &[&str], blocks: &[&str]) {
    let remark = "r".repeat(90);
    let item = |name: &&str| json!({"To_Account": name, "AddSource": "AddSource_Type_test", "Remark": remark});
    let items: Vec<Value> = friends.iter().map(item).collect();
    let body = json!({"From_Account": user, "AddFriendItem": items});
    assert!(caller.call("sns/friend_import", &body).ok().failed().is_empty());
    assert!(caller.block(user, blocks).failed().is_empty());
}

/// Makes the accounts, and the lists of those who have any.
fn prepare(node: &TestProcess, users: &[&str]) {
    node.caller().import(users);
    let listed: Vec<usize> = (0..users.len()).step_by(LISTED).collect();
    thread::scope(|scope| {
        for some in listed.chunks(listed.len().div_ceil(CALLERS)) {
            scope.spawn(move || {
                let mut caller = node.caller();
                for at in some {
                    let others = users.iter().cycle().skip(at + 1).copied();
                    let others: Vec<&str> = others.take(FRIENDS + BLOCKS).collect();
                    let (friends, blocks) = others.split_at(FRIENDS);
                    befriend_and_block(&mut caller, users[*at], friends, blocks);
                }
            });
        }
    });
}

/// Asks for something of each of `users`, which makes them resident.
fn wake(node: &TestProcess, users: &[&str]) {
    let mut caller = node.caller();
    for some in users.chunks(AT_ONCE) {
        let body = json!({"To_Account": some, "TagList": ["Tag_Profile_IM_Nick"]});
        assert!(caller.call("profile/portrait_get", &body).ok().failed().is_empty());
    }
}

/// What the node takes, and what of that are its users by its own count, in bytes.
fn taken(node: &TestProcess) -> [f64; 2] {
    let metrics = node.ops("/metrics");
    let mut lines = metrics.text().lines();
    let said = lines.find_map(|line| line.strip_prefix("cordon_users_resident_bytes "));
    let said = said.and_then(|text| text.parse().ok()).expect("the count is told");
    [node.bytes_of("VmRSS").expect("it runs") as f64, said]
}

#[test]
fn resident_users_take_as_much_memory_as_the_node_says() {
    // Next to no cache: what it holds would be counted as the users'.
    let setup = Setup::new().set("STORE_CACHE_BYTES", "1 MiB");
    // A slow disk is no matter here.
    let setup = setup.set("HTTP_REQUEST_TIMEOUT_MS", "30000");
    let users = names("u", USERS);
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let node = TestProcess::start(&setup);
    prepare(&node, &users);
    node.terminate();
    assert!(node.wait().success());

    // Another process, because the memory of that one has had other uses.
    let node = TestProcess::start(&setup);
    wake(&node, &users[..FIRST]);
    let before = taken(&node);
    wake(&node, &users[FIRST..]);
    let behind = taken(&node);
    let [takes, says] = [0, 1].map(|one| behind[one] - before[one]);
    eprintln!("{takes} bytes, {says} by the node's count");
    assert!(says > 0.0 && takes < 1.5 * says && says < 1.5 * takes, "{takes} bytes, not {says}");
    node.terminate();
    assert!(node.wait().success());
    verify(&setup);
}
