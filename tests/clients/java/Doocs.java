import io.github.doocs.im.ImClient;
import io.github.doocs.im.constant.*;
import io.github.doocs.im.model.message.TIMMsgElement;
import io.github.doocs.im.model.message.TIMTextMsgElement;
import io.github.doocs.im.model.request.*;
import io.github.doocs.im.model.response.*;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * A community's SDK for Java against the server, by https, which is all it knows.
 *
 * What it gets wrong, at the reference too: a chosen friend's groups are text for it, and fail it;
 * `friend_add` loses `Fail_Account`; an ordinary addition is `ForceAddFlags` 2 for it,
 * which no page names.
 */
final class Doocs extends Steps {
    private static final String AMY = "jd-amy", BOB = "jd-bob", CARL = "jd-carl", EVE = "jd-eve", FRED = "jd-fred";
    private static final String NOBODY = "jd-nobody";
    private static final List<String> CROWD = crowd("jd-");

    public static void main(String[] args) {
        Steps steps = new Doocs();
        ImClient client = client(KEY);

        steps.step("accounts are imported", () -> {
            ok(client.account.accountImport(new AccountImportRequest(AMY, "Amy", null)));
            for (List<String> batch : batches(CROWD, BOB, CARL, EVE, FRED)) {
                MultiAccountImportRequest request = new MultiAccountImportRequest(batch);
                same(ok(client.account.multiAccountImport(request)).getFailAccounts(), List.of());
            }
        });

        steps.step("accounts are checked", () -> {
            AccountCheckResult answer = ok(client.account.accountCheck(new AccountCheckRequest(
                    List.of(new AccountCheckItem(AMY), new AccountCheckItem(NOBODY)))));
            same(answer.getResultItems().stream().map(AccountCheckResultItem::getAccountStatus).toList(),
                    List.of(AccountStatus.IMPORTED, AccountStatus.NOT_IMPORTED));
        });

        steps.step("a profile is set", () -> {
            ok(client.profile.portraitSet(new PortraitSetRequest(AMY, List.of(
                    new ProfileItem(TagProfile.IM_GENDER, GenderType.FEMALE),
                    new ProfileItem(TagProfile.IM_BIRTHDAY, 19990102),
                    new ProfileItem(TagProfile.IM_LANGUAGE, 7)))));
            ok(client.profile.portraitSet(new PortraitSetRequest(CARL, List.of(
                    new ProfileItem(TagProfile.IM_ALLOW_TYPE, AllowType.NEED_CONFIRM)))));
        });

        steps.step("a profile is read, with its types", () -> {
            PortraitGetResult answer = ok(client.profile.portraitGet(new PortraitGetRequest(List.of(AMY, NOBODY),
                    List.of(TagProfile.IM_NICK, TagProfile.IM_GENDER, TagProfile.IM_BIRTHDAY,
                            TagProfile.IM_LANGUAGE))));
            Map<String, Object> amy = answer.getUserProfileItemList().get(0).getProfileItemList().stream()
                    .collect(Collectors.toMap(ProfileItem::getTag, ProfileItem::getValue));
            same(amy, Map.of(TagProfile.IM_NICK, "Amy", TagProfile.IM_GENDER, GenderType.FEMALE,
                    TagProfile.IM_BIRTHDAY, 19990102, TagProfile.IM_LANGUAGE, 7));
            same(answer.getUserProfileItemList().get(1).getResultCode(), 40003);
            same(answer.getFailAccount(), List.of(NOBODY));
        });

        steps.step("friends are added, as each allows it", () -> {
            List<AddFriendItem> items = List.of(new AddFriendItem(BOB, "B", "work", SOURCE, "hi"),
                    new AddFriendItem(CARL, SOURCE), new AddFriendItem(NOBODY, SOURCE));
            results(ok(client.sns.friendAdd(new FriendAddRequest(AMY, items, AddType.BOTH, 0))).getResultItemList(),
                    "jd-bob 0, jd-carl 30539 Err_SNS_FriendAdd_Need_Confirm, "
                            + "jd-nobody 30003 Err_SNS_FriendAdd_Account_Not_Exist");
        });

        steps.step("an addition by the library's constant for ordinary, 2, is an ordinary one", () ->
                results(ok(client.sns.friendAdd(new FriendAddRequest(EVE, List.of(new AddFriendItem(BOB, SOURCE)),
                        AddType.BOTH, ForceAddFlags.NORMAL))).getResultItemList(), "jd-bob 0"));

        steps.step("a friend is added by force, another twice", () -> {
            List<AddFriendItem> items = List.of(new AddFriendItem(CARL, SOURCE), new AddFriendItem(BOB, SOURCE));
            results(ok(client.sns.friendAdd(new FriendAddRequest(AMY, items, AddType.BOTH, ForceAddFlags.FORCE)))
                    .getResultItemList(), "jd-carl 0, jd-bob 30001 Err_SNS_FriendAdd_Friend_Exist");
        });

        steps.step("a friend is updated", () -> {
            List<SnsItem> items = List.of(new SnsItem(TagSns.IM_REMARK, "Bobby"),
                    new SnsItem(TagSns.IM_GROUP, List.of("work", "chess")));
            results(ok(client.sns.friendUpdate(new FriendUpdateRequest(AMY, List.of(new UpdateItem(BOB, items)))))
                    .getResultItemList(), "jd-bob 0");
        });

        steps.step("chosen friends are read", () -> {
            List<FriendGetListInfoItem> items = ok(client.sns.friendGetList(new FriendGetListRequest(AMY,
                    List.of(BOB, EVE), List.of(TagProfile.IM_NICK, TagSns.IM_REMARK)))).getInfoItemList();
            same(items.get(0).getSnsProfileItemList().stream().map(item -> item.getTag() + "=" + item.getValue())
                    .sorted().toList(), List.of("Tag_Profile_IM_Nick=", "Tag_SNS_IM_Remark=Bobby"));
            same(items.get(1).getResultCode() + " " + items.get(1).getResultInfo(),
                    "30001 Err_SNS_FriendGetList_Friend_Not_Exist");
            same(items.get(1).getSnsProfileItemList(), null);
        });

        steps.step("friends are imported, and read over several pages", () -> {
            List<ImportFriendItem> items = CROWD.stream().map(name -> ImportFriendItem.builder().toAccount(name)
                    .addSource(SOURCE).groupName(List.of("all")).addTime(1600000000).build()).toList();
            same(ok(client.sns.friendImport(new FriendImportRequest(FRED, items))).getResultItemList().size(),
                    CROWD.size());
            TreeSet<String> found = new TreeSet<>();
            int pages = 0;
            // Its users hand the sequences of page one on to page two: that must not lose the page.
            FriendGetResult page = ok(client.sns.friendGet(new FriendGetRequest(FRED, 0)));
            for (;; pages++) {
                for (UserDataItem item : page.getUserDataItemList()) {
                    same(found.add(item.getToAccount()), true);
                    Map<String, Object> values = item.getValueItemList().stream()
                            .collect(Collectors.toMap(ValueItem::getTag, ValueItem::getValue));
                    same(values, Map.of(TagSns.IM_ADD_SOURCE, SOURCE, TagSns.IM_GROUP, List.of("all"),
                            "Tag_SNS_IM_AddTime", 1600000000));
                }
                if (page.getCompleteFlag() != 0) {
                    break;
                }
                page = ok(client.sns.friendGet(new FriendGetRequest(FRED, page.getNextStartIndex(),
                        page.getStandardSequence(), page.getCustomSequence())));
            }
            same(new ArrayList<>(found), CROWD);
            same(page.getFriendNum() + " " + page.getNextStartIndex(), CROWD.size() + " 0");
            same(pages > 0, true);
        });

        steps.step("friends are checked, one way and both ways", () -> {
            same(friends(client, AMY, CheckResultType.BOTH, BOB, EVE),
                    List.of(CheckResultTypeRelation.BOTH_WAY, CheckResultTypeRelation.NO_RELATION));
            same(friends(client, AMY, CheckResultType.SINGLE, BOB, EVE),
                    List.of(CheckResultTypeRelation.A_WITH_B, CheckResultTypeRelation.NO_RELATION));
            same(friends(client, CROWD.get(0), CheckResultType.BOTH, FRED), List.of(CheckResultTypeRelation.B_WITH_A));
        });

        steps.step("groups are added, read and deleted", () -> {
            GroupAddResult added = ok(client.sns.groupAdd(
                    new GroupAddRequest(AMY, List.of("team"), List.of(CARL, EVE))));
            results(added.getResultItemList(), "jd-carl 0, jd-eve 30001 Err_SNS_GroupAdd_Friend_Not_Exist");
            same(added.getFailAccount(), List.of(EVE));
            GroupGetResultItem team = ok(client.sns.groupGet(
                    new GroupGetRequest(AMY, NeedFriendType.YES, List.of("team")))).getResultItemList().get(0);
            same(team.getGroupName() + " " + team.getFriendNumber() + " " + team.getToAccount(), "team 1 [jd-carl]");
            same(ok(client.sns.groupDelete(new GroupDeleteRequest(AMY, List.of("team")))).getCurrentSequence()
                    > added.getCurrentSequence(), true);
            same(ok(client.sns.groupGet(new GroupGetRequest(AMY))).getResultItemList().stream()
                    .map(GroupGetResultItem::getGroupName).sorted().toList(), List.of("chess", "work"));
        });

        steps.step("a block ends the friendship, both ways", () -> {
            BlackListAddRequest request = new BlackListAddRequest(AMY, List.of(BOB));
            results(ok(client.sns.blackListAdd(request)).getResultItemList(), "jd-bob 0");
            BlackListAddResult again = ok(client.sns.blackListAdd(request));
            results(again.getResultItemList(), "jd-bob 30001 Err_SNS_BlackListAdd_Already_Exist");
            same(again.getFailAccount(), List.of(BOB));
            same(friends(client, AMY, CheckResultType.BOTH, BOB), List.of(CheckResultTypeRelation.NO_RELATION));
        });

        steps.step("blocks are checked, one way and both ways", () -> {
            same(blocks(client, AMY, BlackCheckResultType.BOTH, BOB, EVE),
                    List.of(BlackCheckResultTypeRelation.A_WITH_B, BlackCheckResultTypeRelation.NO));
            same(blocks(client, BOB, BlackCheckResultType.BOTH, AMY), List.of(BlackCheckResultTypeRelation.B_WITH_A));
            same(blocks(client, BOB, BlackCheckResultType.SINGLE, AMY), List.of(BlackCheckResultTypeRelation.NO));
        });

        steps.step("a blocklist is read to its end marker", () -> {
            List<String> blocked = CROWD.subList(0, 5);
            ok(client.sns.blackListAdd(new BlackListAddRequest(EVE, blocked)));
            List<String> found = new ArrayList<>();
            List<Integer> starts = new ArrayList<>();
            int start = 0, sequence = 0;
            do {
                // Its users hand the sequence on as well: no page may be lost for that.
                BlackListGetResult page = ok(client.sns.blackListGet(new BlackListGetRequest(EVE, start, 2, sequence)));
                page.getBlackListItemList().forEach(item -> found.add(item.getToAccount()));
                same((sequence = page.getCurrentSequence()) > 0, true);
                starts.add(start = page.getStartIndex());
            } while (start != 0);
            same(found, blocked);
            same(starts, List.of(2, 4, 0));
        });

        steps.step("a message is sent, past a block", () -> {
            SendMsgResult sent = ok(client.message.sendMsg(SendMsgRequest.builder().fromAccount(BOB).toAccount(AMY)
                    .msgSeq(7L).msgRandom(4294967295L).msgBody(text("hi")).build()));
            same(sent.getMsgKey(), "7_4294967295_" + sent.getMsgTime());
        });

        steps.step("a message is sent to many: some, none", () -> {
            BatchSendMsgResult some = client.message.batchSendMsg(
                    new BatchSendMsgRequest(List.of(AMY, NOBODY), 9L, text("hi")));
            same(some.getActionStatus() + " " + some.getErrorCode(), "SomeError 0");
            BatchSendMsgErrorItem bad = some.getErrorList().get(0);
            same(bad.getToAccount() + " " + bad.getErrorCode(), "jd-nobody 70107");
            BatchSendMsgResult none = client.message.batchSendMsg(
                    new BatchSendMsgRequest(List.of(NOBODY), 9L, text("hi")));
            same(none.getActionStatus() + " " + none.getErrorCode(), "FAIL 90012");
        });

        steps.step("a blocked user is let go", () ->
                results(ok(client.sns.blackListDelete(new BlackListDeleteRequest(AMY, List.of(BOB))))
                        .getResultItemList(), "jd-bob 0"));

        steps.step("friends are deleted: one, and all", () -> {
            FriendDeleteRequest one = new FriendDeleteRequest(AMY, List.of(CARL), DeleteType.BOTH);
            results(ok(client.sns.friendDelete(one)).getResultItemList(), "jd-carl 0");
            results(ok(client.sns.friendDelete(one)).getResultItemList(),
                    "jd-carl 31704 Err_SNS_FriendDelete_Not_Friend");
            ok(client.sns.friendDeleteAll(new FriendDeleteAllRequest(FRED, DeleteType.BOTH)));
            same(ok(client.sns.friendGet(new FriendGetRequest(FRED, 0))).getFriendNum(), 0);
        });

        steps.step("accounts are deleted, once", () -> {
            AccountDeleteRequest request = new AccountDeleteRequest(List.of(new AccountDeleteItem(AMY)));
            same(ok(client.account.accountDelete(request)).getResultItems().get(0).getResultCode(), 0);
            same(ok(client.account.accountDelete(request)).getResultItems().get(0).getResultInfo(),
                    "Err_TLS_PT_Open_Login_Account_Not_Exist");
        });

        steps.step("another key is refused: 70009", () ->
                same(client(KEY.replace('0', '1')).sns.blackListGet(new BlackListGetRequest(BOB, 0, 1, 0))
                        .getErrorCode(), 70009));
        steps.end();
    }

    private static ImClient client(String key) {
        return new ImClient(APP, ADMIN, key, System.getenv("SERVER_HTTPS"));
    }

    private static <R extends GenericResult> R ok(R answer) {
        same(answer.getActionStatus() + " " + answer.getErrorCode() + " " + answer.getErrorInfo(),
                ActionStatus.OK + " 0 ");
        return answer;
    }

    private static void results(List<ResultItem> items, String wanted) {
        same(items.stream()
                .map(item -> item.getToAccount() + " " + item.getResultCode() + " " + item.getResultInfo())
                .map(String::trim).collect(Collectors.joining(", ")), wanted);
    }

    private static List<String> friends(ImClient client, String who, String how, String... whom) throws Exception {
        return ok(client.sns.friendCheck(new FriendCheckRequest(who, List.of(whom), how)))
                .getFriendCheckInfoItemList().stream().map(FriendCheckInfoItem::getRelation).toList();
    }

    private static List<String> blocks(ImClient client, String who, String how, String... whom) throws Exception {
        return ok(client.sns.blackListCheck(new BlackListCheckRequest(who, List.of(whom), how)))
                .getBlackListCheckItemList().stream().map(BlackListCheckItem::getRelation).toList();
    }

    private static List<TIMMsgElement> text(String text) {
        return List.of(new TIMTextMsgElement(text));
    }
}
