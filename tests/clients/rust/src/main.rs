//! `tencent_im_rs`, a client library for Rust, against the server, by https, which is all it knows.
//!
//! Every answer is read into the library's own types, which know no other value than the page names,
//! and compared as they write it again. What it gets wrong, at the reference too: its names of hosts
//! begin with `https://`, and it puts that before them once more; text values are all `Nick` or
//! `Remark` for it, whatever their tag.

mod steps;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use steps::{ADMIN, Steps, app, env, failed, ok, results, same, sorted};
use tencent_im_rs::api::v4::TencentHelper;
use tencent_im_rs::api::v4::common::{
    BlackListVerifyType, FriendAddType, FriendCheckType, FriendDeleteType, MsgBody, MsgContent,
    ProfileTag, SnsTag,
};
use tencent_im_rs::api::v4::im_open_login_svc::{
    account_check::{self, api_account_check},
    account_delete::{self, api_account_delete},
    account_import::{self, api_account_import},
    multi_account_import::{self, api_multiaccount_import},
};
use tencent_im_rs::api::v4::open_im::{
    batch_send_msg::{self, api_batchsendmsg},
    send_msg::{self, api_sendmsg},
};
use tencent_im_rs::api::v4::profile::{
    portrait_get::{self, api_portrait_get},
    portrait_set::{self, api_portrait_set},
};
use tencent_im_rs::api::v4::sns::{
    black_list_add::{self, api_black_list_add},
    black_list_check::{self, api_black_list_check},
    black_list_delete::{self, api_black_list_delete},
    black_list_get::{self, api_black_list_get},
    friend_add::{self, api_friend_add},
    friend_check::{self, api_friend_check},
    friend_delete::{self, api_friend_delete},
    friend_delete_all::{self, api_friend_delete_all},
    friend_get::{self, api_friend_get},
    friend_get_list::{self, api_friend_get_list},
    friend_import::{self, api_friend_import},
    friend_update::{self, api_friend_update},
    group_add::{self, api_group_add},
    group_delete::{self, api_group_delete},
    group_get::{self, api_group_get},
};
use tencent_im_rs::user_sig::hmac_sha256::TencentSig;

const AMY: &str = "rs-amy";
const BOB: &str = "rs-bob";
const CARL: &str = "rs-carl";
const EVE: &str = "rs-eve";
const FRED: &str = "rs-fred";
const NOBODY: &str = "rs-nobody";
const SOURCE: &str = "AddSource_Type_test";
const DAY_S: u64 = 86_400;
/// The most accounts of one call.
const ACCOUNTS_MAX: usize = 100;

/// More than a page of friends.
fn crowd() -> Vec<String> {
    (1..=230).map(|number| format!("rs-{number:03}")).collect()
}

/// The library with the clients' own certificates and a key.
fn client(key: String) -> Result<TencentHelper> {
    let admin = env(ADMIN)?;
    let usersig = TencentSig::new(app()?, key).generate_user_sig(admin.clone(), DAY_S);
    let usersig = usersig.ok_or_else(|| anyhow::anyhow!("the library signs nothing"))?;
    let mut helper = TencentHelper::new(env("SERVER_HTTPS")?, app()?, admin, usersig);
    let ca = reqwest::Certificate::from_pem(&std::fs::read(env("SERVER_CA")?)?)?;
    *helper.get_client() = reqwest::Client::builder().add_root_certificate(ca).build()?;
    Ok(helper)
}

fn friend(name: &str) -> friend_add::AddFriendItem {
    let mut item = friend_add::AddFriendItem::new(name);
    item.set_add_source(Some(SOURCE));
    item
}

fn text(text: &str) -> Vec<MsgBody> {
    vec![MsgBody::new(MsgContent::str_text(), MsgContent::content_text(text))]
}

/// The pages of `friend_get`, each as the library reads it.
async fn pages(im: &mut TencentHelper, who: &str) -> Result<Vec<Value>> {
    let mut pages = Vec::new();
    let mut start = 0;
    loop {
        let page = api_friend_get(im, friend_get::FriendGetRequest::new(who, start)).await?;
        let complete = page.complete_flag;
        start = page.next_start_index.unwrap_or(0);
        pages.push(ok(page)?);
        if complete != Some(0) {
            same(start, 0)?;
            return Ok(pages);
        }
    }
}

async fn relations(
    im: &mut TencentHelper,
    who: &str,
    whom: Vec<&str>,
    how: FriendCheckType,
) -> Result<Value> {
    let request = friend_check::FriendCheckRequest::new(who, whom, how);
    let answer = ok(api_friend_check(im, request).await?)?;
    Ok(answer["InfoItem"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| it["Relation"].clone())
        .collect())
}

async fn blocks(
    im: &mut TencentHelper,
    who: &str,
    whom: Vec<&str>,
    how: BlackListVerifyType,
) -> Result<Value> {
    let request = black_list_check::BlackListCheckRequest::new(who, whom, how);
    let answer = ok(api_black_list_check(im, request).await?)?;
    let items = answer["BlackListCheckItem"].as_array().into_iter().flatten();
    Ok(items.map(|it| it["Relation"].clone()).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let key = env("CORDON_APP_KEY")?;
    let im = &mut client(key.clone())?;
    let mut steps = Steps::default();
    let crowd = crowd();

    steps
        .step("accounts are imported", async {
            let mut amy = account_import::AccountImportRequest::new(AMY);
            amy.set_nick(Some("Amy"));
            ok(api_account_import(im, amy).await?)?;
            let mut names = vec![BOB, CARL, EVE, FRED];
            names.extend(crowd.iter().map(String::as_str));
            for names in names.chunks(ACCOUNTS_MAX) {
                let request = multi_account_import::MultiAccountImportRequest::new(names.to_vec());
                same(
                    &ok(api_multiaccount_import(im, request).await?)?["FailAccounts"],
                    &json!([]),
                )?;
            }
            Ok(())
        })
        .await;

    steps.step("accounts are checked", async {
        let names = [AMY, NOBODY].map(account_check::CheckItem::new);
        let request = account_check::AccountCheckRequest::new(names.into());
        same(ok(api_account_check(im, request).await?)?["ResultItem"].clone(), json!([
            {"UserID": AMY, "ResultCode": 0, "ResultInfo": "", "AccountStatus": "Imported"},
            {"UserID": NOBODY, "ResultCode": 0, "ResultInfo": "", "AccountStatus": "NotImported"},
        ]))
    }).await;

    steps
        .step("a profile is set", async {
            let item = portrait_set::ProfileItem::new;
            let items = vec![
                item(ProfileTag::str_gender(), ProfileTag::tag_gender("Gender_Type_Female")),
                item(ProfileTag::str_birthday(), ProfileTag::tag_birthday(19_990_102)),
                item(ProfileTag::str_role(), ProfileTag::tag_role(u32::MAX)),
            ];
            ok(api_portrait_set(im, portrait_set::PortraitSetRequest::new(AMY.into(), items))
                .await?)?;
            let deny = ProfileTag::tag_allow_type("AllowType_Type_DenyAny");
            let items = vec![item(ProfileTag::str_allow_type(), deny)];
            ok(api_portrait_set(im, portrait_set::PortraitSetRequest::new(CARL.into(), items))
                .await?)?;
            let items =
                vec![item(ProfileTag::str_gender(), ProfileTag::tag_gender("Gender_Type_Other"))];
            let request = portrait_set::PortraitSetRequest::new(AMY.into(), items);
            failed(40605, api_portrait_set(im, request).await?)
        })
        .await;

    steps
        .step("a profile is read, with its types", async {
            let tags = [
                ProfileTag::str_nick(),
                ProfileTag::str_gender(),
                ProfileTag::str_birthday(),
                ProfileTag::str_role(),
                ProfileTag::str_level(),
            ];
            let tags = tags.iter().map(String::as_str).collect();
            let request = portrait_get::PortraitGetRequest::new(vec![AMY, NOBODY], tags);
            let answer = ok(api_portrait_get(im, request).await?)?;
            same(
                sorted(&answer["UserProfileItem"][0]["ProfileItem"]),
                sorted(&json!([
                    {"Tag": "Tag_Profile_IM_Nick", "Value": "Amy"},
                    {"Tag": "Tag_Profile_IM_Gender", "Value": "Gender_Type_Female"},
                    {"Tag": "Tag_Profile_IM_BirthDay", "Value": 19_990_102},
                    {"Tag": "Tag_Profile_IM_Role", "Value": u32::MAX},
                    {"Tag": "Tag_Profile_IM_Level", "Value": 0},
                ])),
            )?;
            same(&answer["UserProfileItem"][1]["ResultCode"], &json!(40003))?;
            same(&answer["UserProfileItem"][1]["ProfileItem"], &Value::Null)?;
            same(&answer["Fail_Account"], &json!([NOBODY]))
        })
        .await;

    steps
        .step("friends are added, as each allows it", async {
            let mut bob = friend(BOB);
            bob.set_remark(Some("B")).set_group_name(Some("work")).set_add_wording(Some("hi"));
            let items = vec![bob, friend(CARL), friend(NOBODY)];
            results(
                api_friend_add(im, friend_add::FriendAddRequest::new(AMY, items)).await?,
                &[
                    (BOB, 0, ""),
                    (CARL, 30516, "Err_SNS_FriendAdd_Friend_Allow_Type_Forbid"),
                    (NOBODY, 30003, "Err_SNS_FriendAdd_Account_Not_Exist"),
                ],
            )
        })
        .await;

    steps
        .step("a friend is added by force, another twice", async {
            let mut request =
                friend_add::FriendAddRequest::new(AMY, vec![friend(CARL), friend(BOB)]);
            request.set_add_type(Some(FriendAddType::AddTypeBoth)).set_force_add_flags(Some(1));
            let exists = "Err_SNS_FriendAdd_Friend_Exist";
            results(api_friend_add(im, request).await?, &[(CARL, 0, ""), (BOB, 30001, exists)])
        })
        .await;

    steps
        .step("a friend is updated", async {
            let mut item = friend_update::UpdateItem::new(BOB);
            item.set_sns_items(vec![
                friend_update::SnsItem::new(SnsTag::str_remark(), SnsTag::tag_remark("Bobby")),
                friend_update::SnsItem::new(
                    SnsTag::str_group(),
                    SnsTag::tag_group(vec!["work", "chess"]),
                ),
            ]);
            let mut request = friend_update::FriendUpdateRequest::new(AMY);
            request.set_update_items(vec![item]);
            results(api_friend_update(im, request).await?, &[(BOB, 0, "")])
        })
        .await;

    steps
        .step("chosen friends are read", async {
            let tags = [ProfileTag::str_nick(), SnsTag::str_remark(), SnsTag::str_group()];
            let tags = tags.iter().map(String::as_str).collect();
            let request = friend_get_list::FriendGetListRequest::new(AMY, vec![BOB, EVE], tags);
            let answer = ok(api_friend_get_list(im, request).await?)?;
            same(
                sorted(&answer["InfoItem"][0]["SnsProfileItem"]),
                sorted(&json!([
                    {"Tag": "Tag_Profile_IM_Nick", "Value": ""},
                    {"Tag": "Tag_SNS_IM_Remark", "Value": "Bobby"},
                    {"Tag": "Tag_SNS_IM_Group", "Value": ["chess", "work"]},
                ])),
            )?;
            let gone = "Err_SNS_FriendGetList_Friend_Not_Exist";
            let eve = json!({"To_Account": EVE, "ResultCode": 30001, "ResultInfo": gone});
            same(&answer["InfoItem"][1], &eve)?;
            same(&answer["Fail_Account"], &json!([EVE]))
        })
        .await;

    steps
        .step("friends are imported, and read over several pages", async {
            let items = crowd.iter().map(|name| {
                let mut item = friend_import::AddFriendItem::new(name);
                item.set_add_source(Some(SOURCE)).set_group_name(Some(vec!["all"]));
                item.set_add_time(Some(1_600_000_000));
                item
            });
            let mut request = friend_import::FriendImportRequest::new(FRED);
            request.set_add_friend_item(items.collect());
            let wanted: Vec<_> = crowd.iter().map(|name| (name.as_str(), 0, "")).collect();
            results(api_friend_import(im, request).await?, &wanted)?;
            let pages = pages(im, FRED).await?;
            anyhow::ensure!(pages.len() > 1, "{} pages", pages.len());
            let mut items = Vec::new();
            for page in &pages {
                same(&page["FriendNum"], &json!(crowd.len()))?;
                items.extend(
                    page["UserDataItem"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|item| json!([item["To_Account"], sorted(&item["ValueItem"])])),
                );
            }
            let values = sorted(&json!([
                {"Tag": "Tag_SNS_IM_AddSource", "Value": SOURCE},
                {"Tag": "Tag_SNS_IM_Group", "Value": ["all"]},
                {"Tag": "Tag_SNS_IM_AddTime", "Value": 1_600_000_000},
            ]));
            let wanted: Value = crowd.iter().map(|name| json!([name, values])).collect();
            same(sorted(&Value::Array(items)), sorted(&wanted))
        })
        .await;

    steps
        .step("friends are checked, one way and both ways", async {
            use FriendCheckType::{CheckResultTypeBoth as Both, CheckResultTypeSingle as Single};
            let kind = |name| format!("CheckResult_Type_{name}");
            let wanted = json!([kind("BothWay"), kind("NoRelation")]);
            same(relations(im, AMY, vec![BOB, EVE], Both).await?, wanted)?;
            let wanted = json!([kind("AWithB"), kind("NoRelation")]);
            same(relations(im, AMY, vec![BOB, EVE], Single).await?, wanted)?;
            same(relations(im, &crowd[0], vec![FRED], Both).await?, json!([kind("BWithA")]))
        })
        .await;

    steps
        .step("groups are added, read and deleted", async {
            let mut request = group_add::GroupAddRequest::new(AMY, vec!["team"]);
            request.set_to_accounts(Some(vec![CARL, EVE]));
            let added = api_group_add(im, request).await?;
            let sequence = added.current_sequence;
            let stranger = "Err_SNS_GroupAdd_Friend_Not_Exist";
            results(added, &[(CARL, 0, ""), (EVE, 30001, stranger)])?;
            let mut request = group_get::GroupGetRequest::new(AMY);
            request.set_need_friend(Some(true)).set_group_names(Some(vec!["team"]));
            let team = json!([{"GroupName": "team", "FriendNumber": 1, "To_Account": [CARL]}]);
            same(&ok(api_group_get(im, request).await?)?["ResultItem"], &team)?;
            let request = group_delete::GroupDeleteRequest::new(AMY, vec!["team"]);
            let deleted = api_group_delete(im, request).await?;
            anyhow::ensure!(deleted.current_sequence > sequence, "{deleted:?}");
            ok(deleted)?;
            // Without a wish for friends it sends `"NeedFriend":null`.
            let answer = ok(api_group_get(im, group_get::GroupGetRequest::new(AMY)).await?)?;
            same(
                sorted(&answer["ResultItem"]),
                sorted(&json!([
                    {"GroupName": "work", "FriendNumber": 1},
                    {"GroupName": "chess", "FriendNumber": 1},
                ])),
            )
        })
        .await;

    steps
        .step("a block ends the friendship, both ways", async {
            let request = || black_list_add::BlackListAddRequest::new(AMY, vec![BOB]);
            results(api_black_list_add(im, request()).await?, &[(BOB, 0, "")])?;
            let exists = "Err_SNS_BlackListAdd_Already_Exist";
            results(api_black_list_add(im, request()).await?, &[(BOB, 30001, exists)])?;
            let found = relations(im, AMY, vec![BOB], FriendCheckType::CheckResultTypeBoth).await?;
            same(found, json!(["CheckResult_Type_NoRelation"]))
        })
        .await;

    steps
        .step("blocks are checked, one way and both ways", async {
            use BlackListVerifyType::{
                BlackCheckResultTypeBoth as Both, BlackCheckResultTypeSingle as Single,
            };
            let kind = |name| format!("BlackCheckResult_Type_{name}");
            same(
                blocks(im, AMY, vec![BOB, EVE], Both).await?,
                json!([kind("AWithB"), kind("NO")]),
            )?;
            same(blocks(im, BOB, vec![AMY], Both).await?, json!([kind("BWithA")]))?;
            same(blocks(im, BOB, vec![AMY], Single).await?, json!([kind("NO")]))
        })
        .await;

    steps
        .step("a blocklist is read to its end marker", async {
            let blocked: Vec<_> = crowd.iter().take(5).map(String::as_str).collect();
            ok(api_black_list_add(
                im,
                black_list_add::BlackListAddRequest::new(EVE, blocked.clone()),
            )
            .await?)?;
            let (mut found, mut starts, mut start) = (Vec::new(), Vec::new(), 0);
            loop {
                let request = black_list_get::BlackListGetRequest::new(EVE, start, 2, 0);
                let page = api_black_list_get(im, request).await?;
                anyhow::ensure!(page.current_sequence > Some(0), "{page:?}");
                start = page.start_index.unwrap_or(0);
                starts.push(start);
                let page = ok(page)?;
                let items = page["BlackListItem"].as_array().into_iter().flatten();
                found.extend(items.map(|item| item["To_Account"].clone()));
                if start == 0 {
                    break;
                }
            }
            same((json!(found), starts), (json!(blocked), vec![2, 4, 0]))
        })
        .await;

    steps
        .step("a message is sent, past a block", async {
            let mut request = send_msg::SendMsgRequest::new(AMY, u32::MAX, text("hi"));
            request.set_from_account(Some(BOB)).set_msg_seq(Some(7));
            let sent = api_sendmsg(im, request).await?;
            let (key, time) = (sent.msg_key.clone(), sent.msg_time.unwrap_or(0));
            ok(sent)?;
            same(key, Some(format!("7_{}_{time}", u32::MAX)))
        })
        .await;

    steps
        .step("a message is sent to many: some, none", async {
            let request = |whom| batch_send_msg::BatchSendMsgRequest::new(whom, 9, text("hi"));
            let some =
                serde_json::to_value(api_batchsendmsg(im, request(vec![AMY, NOBODY])).await?)?;
            same(&some["ActionStatus"], &json!("SomeError"))?;
            same(&some["ErrorCode"], &json!(0))?;
            same(&some["ErrorList"], &json!([{"To_Account": NOBODY, "ErrorCode": 70107}]))?;
            failed(90012, api_batchsendmsg(im, request(vec![NOBODY])).await?)
        })
        .await;

    steps
        .step("a blocked user is let go", async {
            let request = black_list_delete::BlackListDeleteRequest::new(AMY, vec![BOB]);
            results(api_black_list_delete(im, request).await?, &[(BOB, 0, "")])
        })
        .await;

    steps
        .step("friends are deleted: one, and all", async {
            for (code, info) in [(0, ""), (31704, "Err_SNS_FriendDelete_Not_Friend")] {
                let mut request = friend_delete::FriendDeleteRequest::new(AMY, vec![CARL]);
                request.set_delete_type(Some(FriendDeleteType::DeleteTypeBoth));
                let answer = ok(api_friend_delete(im, request).await?)?;
                same(
                    &answer["ResultItem"],
                    &json!([{"To_Account": CARL, "ResultCode": code, "ResultInfo": info}]),
                )?;
            }
            ok(api_friend_delete_all(
                im,
                friend_delete_all::FriendDeleteAllRequest::new(FRED.into()),
            )
            .await?)?;
            let pages = pages(im, FRED).await?;
            same((pages.len(), &pages[0]["UserDataItem"]), (1, &json!([])))
        })
        .await;

    steps
        .step("accounts are deleted, once", async {
            let names = [AMY, NOBODY].map(account_delete::DeleteItem::new);
            let request = account_delete::AccountDeleteRequest::new(names.into());
            let gone = "Err_TLS_PT_Open_Login_Account_Not_Exist";
            same(
                &ok(api_account_delete(im, request).await?)?["ResultItem"],
                &json!([
                    {"UserID": AMY, "ResultCode": 0, "ResultInfo": ""},
                    {"UserID": NOBODY, "ResultCode": 70107, "ResultInfo": gone},
                ]),
            )
        })
        .await;

    steps
        .step("another key is refused: 70009", async {
            let im = &mut client(key.replace('0', "1"))?;
            let request = black_list_get::BlackListGetRequest::new(BOB, 0, 1, 0);
            failed(70009, api_black_list_get(im, request).await?)
        })
        .await;

    Ok(steps.end())
}
