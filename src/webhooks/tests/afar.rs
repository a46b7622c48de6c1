//! Over a network: whoever cannot be read for a while holds nobody else up, and is told afterwards.

use super::*;

#[actix_web::test]
async fn a_partition_that_cannot_be_read_holds_no_other_s_calls() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::afar(3).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1, 2]).await;
    owner.cut(&[0]);
    owner.append(0, &blocks("amy", "one")).await;
    owner.append(1, &blocks("bob", "one")).await;
    receiver.until_accepted(1).await;
    assert_eq!(receiver.heard()[0].user(), "bob");
    // Once the reading thread has given it up, too.
    owner.append(2, &blocks("carl", "one")).await;
    owner.append(1, &blocks("bob", "two")).await;
    receiver.until_accepted(3).await;
    owner.cut(&[]);
    receiver.until_accepted(4).await;
    stop(handle).await;
    let told = targets_by_user(&receiver.accepted());
    assert_eq!((told["amy"].len(), told["bob"].len(), told["carl"].len()), (1, 2, 1));
}

#[actix_web::test]
async fn a_backlog_that_cannot_be_read_holds_no_news() {
    let receiver = Receiver::start(|_| Answer::Status(500));
    let owner = Owner::afar(2).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    owner.append(0, &blocks("amy", "one")).await;
    receiver.until("amy's call is tried", |heard| !heard.is_empty()).await;
    stop(handle).await;
    receiver.behave(|_| Answer::Ok);
    owner.cut(&[0]);
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    owner.append(1, &blocks("bob", "one")).await;
    receiver.until_accepted(1).await;
    owner.cut(&[]);
    receiver.until_accepted(2).await;
    stop(handle).await;
    let accepted = receiver.accepted();
    assert_eq!((accepted[0].user(), accepted[1].user()), ("bob".into(), "amy".into()));
}

#[actix_web::test]
async fn a_journal_that_cannot_be_read_at_all_is_read_on_when_it_is_back() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::afar(2).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    owner.cut(&[0, 1]);
    owner.append(0, &blocks("amy", "one")).await;
    owner.append(1, &blocks("bob", "one")).await;
    owner.cut(&[]);
    receiver.until_accepted(2).await;
    // And a partition that is left and followed again meanwhile is told everything once.
    within("to leave", handle.leave(&[Partition(0)])).await;
    owner.append(0, &blocks("amy", "two")).await;
    within("to follow", handle.follow(&[Partition(0)])).await.expect("it is followed again");
    owner.append(0, &blocks("amy", "three")).await;
    receiver.until_accepted(4).await;
    stop(handle).await;
    let told = targets_by_user(&receiver.heard());
    assert_eq!(told["amy"], ["one", "two", "three"]);
}
