//! Any record.

use std::sync::Arc;

use cordon::domain::{AppId, Timestamp, UserKey};
use cordon::journal::{
    Body, Cause, Commit, Cursor, Epoch, Kind, Offset, Origin, Partition, Place, Record,
};
use cordon::store::rows::RowHash;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::any_event::{event, text, user, uuid, version};

pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let record = (any::<u64>(), 1_u64.., any_body());
    record.prop_map(|(epoch, n, body)| {
        let n = if body.kind() == Kind::Claim { 0 } else { n };
        Record { epoch: Epoch(epoch), n, body }
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let hash = || any::<u128>().prop_map(|rows| RowHash(rows).to_string());
    prop_oneof![
        8 => any_commit().prop_map(Body::Commit),
        1 => (any::<String>(), uuid()).prop_map(|(node, nonce)| Body::Claim { node, nonce }),
        1 => vec((any::<u16>().prop_map(Partition), any::<u64>()), 0..4)
            .prop_map(|seen| Body::Watermark { seen }),
        1 => vec((any::<u16>().prop_map(Partition), any::<u64>()), 0..4)
            .prop_map(|out| Body::Acknowledged { out }),
        1 => (any::<String>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
            |(subscription, next, epoch, n)| Body::Cursor {
                subscription,
                cursor: Box::new(Cursor::begin(Place {
                    next: Offset(next),
                    epoch: Epoch(epoch),
                    n,
                })),
            }
        ),
        1 => hash().prop_map(|hash| Body::Release { hash }),
        1 => hash().prop_map(|hash| Body::Checkpoint { hash }),
    ]
}

prop_compose! {
    fn any_commit()(
        id in uuid(),
        app in any::<u32>(),
        user in user(),
        version in version(),
        // Up to the last moment that RFC 3339 can write.
        at in 0_i64..253_402_300_800_000,
        by in origin(),
        cause in option::of(cause()),
        events in vec(event(), 1..6),
    ) -> Commit {
        let key = UserKey { app: AppId(app), user };
        Commit { id, key, version, at: Timestamp(at), by: Arc::new(by), cause, events }
    }
}

prop_compose! {
    fn origin()(
        operator in text(), request in uuid(), ip in text(), platform in text(),
    ) -> Origin {
        Origin { operator, request, ip, platform }
    }
}

prop_compose! {
    fn cause()(
        partition in any::<u16>(), seq in any::<u64>(), user in user(), version in version(),
    ) -> Cause {
        Cause { partition: Partition(partition), seq, user, version }
    }
}
