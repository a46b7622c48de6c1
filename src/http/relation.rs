//! What stands between one user and many: the look that both check commands share.
//! Rule: rest-api.md 3.5 and 4.7.

use std::iter::repeat_n;

use futures_util::future::join;

use super::answer::Failure;
use super::call::Call;
use super::error_code::{self as code, ErrorCode};
use crate::actors::{Asker, ExecuteError, Standing};
use crate::domain::{OfferForm, Rejection, UserId};

/// Which sides are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// Only what the owner keeps about the target.
    Single,
    /// Also what the target keeps about the owner.
    Both,
}

/// How a command calls what it finds.
pub(super) struct Names {
    pub(super) none: &'static str,
    pub(super) a_with_b: &'static str,
    pub(super) b_with_a: &'static str,
    pub(super) both_way: &'static str,
}

impl Names {
    fn name(&self, a_has_b: bool, b_has_a: bool) -> &'static str {
        match (a_has_b, b_has_a) {
            (false, false) => self.none,
            (true, false) => self.a_with_b,
            (false, true) => self.b_with_a,
            (true, true) => self.both_way,
        }
    }
}

/// The relation of `owner` to each of `targets`, in order, by what `has` sees in a standing.
///
/// Fails as a whole with 30003 when the owner is not imported; per entry with 30003 for a target
/// that is not, with 30001 for the owner among the targets, and with 30007 for a target whose owner
/// does not answer.
pub(super) async fn look(
    call: &Call<'_>,
    owner: UserId,
    targets: &[UserId],
    sides: Sides,
    has: fn(&Standing) -> bool,
    names: &Names,
) -> Result<Vec<Result<&'static str, ErrorCode>>, Failure> {
    let found = between(call, call.asker(), owner, targets, sides).await?.into_iter();
    Ok(found.map(|both| both.map(|(ours, theirs)| names.name(has(&ours), has(&theirs)))).collect())
}

/// What `owner` and each of `targets` keep about the other, in order. With [`Sides::Single`], the targets
/// only say that they exist. Waits no longer than `asker`; fails as [`look`] does.
pub(super) async fn between(
    call: &Call<'_>,
    asker: Asker<'_>,
    owner: UserId,
    targets: &[UserId],
    sides: Sides,
) -> Result<Vec<Result<(Standing, Standing), ErrorCode>>, Failure> {
    if targets.is_empty() {
        return match call.imported(asker, &[owner]).await?.as_slice() {
            [true] => Ok(Vec::new()),
            _ => call.fails(code::ACCOUNT_NOT_IMPORTED),
        };
    }
    let ours = targets.iter().map(|target| (owner, *target));
    let (ours, theirs) = match sides {
        Sides::Single => {
            let pairs: Vec<_> = ours.collect();
            let ours = asker.standings(call.app().id, &pairs);
            let (ours, imported) = join(ours, asker.imported(call.app().id, targets)).await;
            let stands = |known| Standing { owner_imported: known, ..Standing::default() };
            (ours, imported.into_iter().map(|known| known.map(stands)).collect())
        }
        Sides::Both => {
            let pairs: Vec<_> = ours.chain(targets.iter().map(|target| (*target, owner))).collect();
            let mut ours = asker.standings(call.app().id, &pairs).await;
            let theirs = ours.split_off(targets.len().min(ours.len()));
            (ours, theirs)
        }
    };
    let ours: Result<Vec<Standing>, _> = ours.into_iter().collect();
    let ours = ours.map_err(|error| call.fault(&error))?;
    if !ours.first().is_some_and(|standing| standing.owner_imported) {
        return call.fails(code::ACCOUNT_NOT_IMPORTED);
    }
    let both = targets.iter().zip(ours.into_iter().zip(theirs));
    let both = both.map(|(target, (ours, theirs))| match theirs {
        Ok(theirs) => judge(owner, *target, (ours, theirs)),
        Err(error) => Err(call.unheard(&error)),
    });
    Ok(both.collect())
}

fn judge(
    owner: UserId,
    target: UserId,
    both: (Standing, Standing),
) -> Result<(Standing, Standing), ErrorCode> {
    if target == owner {
        return Err(code::REQUEST_INVALID);
    }
    if !both.1.owner_imported {
        return Err(code::ACCOUNT_NOT_IMPORTED);
    }
    Ok(both)
}

/// Whether an offer that its owner refuses for this reason may have another one that comes first, which
/// only the peer knows. Rule: rest-api.md 4.2, rows 5, 7 and 8.
pub(super) fn may_come_later(own: Rejection) -> bool {
    own == Rejection::PeerBlocked || is_behind_a_block(own)
}

fn is_behind_a_block(own: Rejection) -> bool {
    use Rejection::{FriendListFull, RequestsForbidden, TooManyGroups};
    matches!(own, RequestsForbidden | FriendListFull | TooManyGroups)
}

/// The reason that comes first of an offer that its owner refuses for `own`, given what both keep.
/// Rule: rest-api.md 4.2, rows 4 to 8.
pub(super) fn foremost(
    own: Rejection,
    form: OfferForm,
    (ours, theirs): (Standing, Standing),
) -> Rejection {
    let are_friends = ours.has_friend && (theirs.has_friend || !form.is_two_way());
    if are_friends && may_come_later(own) {
        Rejection::AlreadyFriend
    } else if theirs.blocks && is_behind_a_block(own) {
        Rejection::BlockedByPeer
    } else {
        own
    }
}

/// What `user` is for each of `owners`, in order, before something is done about it.
pub(super) async fn standings_about(
    call: &Call<'_>,
    user: UserId,
    owners: &[UserId],
) -> Vec<Result<Standing, ExecuteError>> {
    let pairs: Vec<_> = owners.iter().copied().zip(repeat_n(user, owners.len())).collect();
    call.before().standings(call.app().id, &pairs).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names { none: "-", a_with_b: "a>b", b_with_a: "b>a", both_way: "a=b" };

    fn standing(owner_imported: bool, blocks: bool) -> Standing {
        Standing { owner_imported, blocks, has_friend: false }
    }

    fn judged(target: &str, ours: Standing, theirs: Standing) -> Result<&'static str, ErrorCode> {
        let [owner, target] = ["amy", target].map(|name| UserId::parse(name).unwrap());
        let both = judge(owner, target, (ours, theirs))?;
        Ok(NAMES.name(both.0.blocks, both.1.blocks))
    }

    #[test]
    fn the_peers_word_comes_before_what_the_owner_refuses_in_the_order_of_the_table() {
        use Rejection::{AlreadyFriend, BlockedByPeer, FriendListFull, PeerBlocked};
        use Rejection::{RequestsForbidden, SelfTarget, TooManyGroups};
        let keeps = |has_friend, blocks| Standing { owner_imported: true, blocks, has_friend };
        let cases = [
            // Own reason, two-way, we have them, they have us, they block us.
            (RequestsForbidden, true, true, true, true, AlreadyFriend),
            (FriendListFull, true, true, false, true, BlockedByPeer),
            (TooManyGroups, true, true, true, false, AlreadyFriend),
            (TooManyGroups, true, false, true, false, TooManyGroups),
            (RequestsForbidden, false, false, false, true, BlockedByPeer),
            (TooManyGroups, false, true, false, false, AlreadyFriend),
            (PeerBlocked, true, true, true, true, AlreadyFriend),
            (PeerBlocked, true, true, false, true, PeerBlocked),
            (SelfTarget, true, true, true, true, SelfTarget),
        ];
        for (own, two_way, we, they, block, first) in cases {
            let form = if two_way { OfferForm::TwoWay } else { OfferForm::OneWay };
            let both = (keeps(we, false), keeps(they, block));
            assert_eq!(foremost(own, form, both), first, "{own:?} {two_way} {we} {they} {block}");
        }
    }

    #[test]
    fn the_relation_says_who_has_whom() {
        for (ours, theirs, name) in
            [(false, false, "-"), (true, false, "a>b"), (false, true, "b>a"), (true, true, "a=b")]
        {
            let found = judged("bob", standing(true, ours), standing(true, theirs));
            assert_eq!(found, Ok(name));
        }
    }

    #[test]
    fn a_target_that_is_not_imported_fails_even_if_it_stands_on_the_list() {
        let found = judged("bob", standing(true, true), standing(false, false));
        assert_eq!(found, Err(code::ACCOUNT_NOT_IMPORTED));
    }

    #[test]
    fn the_owner_is_no_target() {
        let found = judged("amy", standing(true, false), standing(true, false));
        assert_eq!(found, Err(code::REQUEST_INVALID));
    }
}
