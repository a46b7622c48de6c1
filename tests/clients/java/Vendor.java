import com.fasterxml.jackson.databind.JsonNode;
import com.tencentcloudapi.im.ApiClient;
import com.tencentcloudapi.im.JSON;
import com.tencentcloudapi.im.api.AccountApi;
import com.tencentcloudapi.im.api.PortraitApi;
import com.tencentcloudapi.im.api.RelationshipsApi;
import com.tencentcloudapi.im.api.SingleChatApi;
import com.tencentcloudapi.im.model.*;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/**
 * The vendor's own SDK for Java against the server. It takes no other type than the page gives, no
 * `null`, and nothing but JSON by its content type.
 *
 * What it gets wrong, at the reference too: values of profiles and friends are text for it, so it can
 * set neither a birthday nor several groups, and fails to read a chosen friend's groups.
 */
final class Vendor extends Steps {
    private static final String AMY = "jv-amy", BOB = "jv-bob", CARL = "jv-carl", EVE = "jv-eve", FRED = "jv-fred";
    private static final String NOBODY = "jv-nobody";
    private static final List<String> CROWD = crowd("jv-");

    public static void main(String[] args) {
        Steps steps = new Vendor();
        ApiClient client = client(KEY);
        AccountApi accounts = new AccountApi(client);
        PortraitApi profiles = new PortraitApi(client);
        RelationshipsApi sns = new RelationshipsApi(client);
        SingleChatApi chat = new SingleChatApi(client);

        steps.step("accounts are imported", () -> {
            ok(told(accounts.accountImport(1, new AccountImportRequest().userID(AMY).nick("Amy"))));
            for (List<String> batch : batches(CROWD, BOB, CARL, EVE, FRED)) {
                JsonNode answer = told(accounts.multiAccountImport(2, new MultiAccountImportRequest().accounts(batch)));
                same(ok(answer).path("FailAccounts").toString(), "[]");
            }
        });

        steps.step("accounts are checked", () -> {
            AccountCheckRequest request = new AccountCheckRequest();
            for (String name : List.of(AMY, NOBODY)) {
                request.addCheckItemItem(new AccountCheckRequestCheckItemInner().userID(name));
            }
            items(ok(told(accounts.accountCheck(3, request))).path("ResultItem"),
                    "jv-amy 0 Imported, jv-nobody 0 NotImported", "UserID", "ResultCode", "AccountStatus");
        });

        steps.step("a profile is set", () -> {
            ok(told(profiles.portraitSet(4, new PortraitSetRequest().fromAccount(AMY)
                    .addProfileItemItem(profile("Tag_Profile_IM_Gender", "Gender_Type_Female"))
                    .addProfileItemItem(profile("Tag_Profile_IM_Location", "Wien")))));
            ok(told(profiles.portraitSet(5, new PortraitSetRequest().fromAccount(CARL)
                    .addProfileItemItem(profile("Tag_Profile_IM_AllowType", "AllowType_Type_DenyAny")))));
        });

        steps.step("a birthday as text is refused: 40610", () ->
                failed(40610, told(profiles.portraitSet(6, new PortraitSetRequest().fromAccount(AMY)
                        .addProfileItemItem(profile("Tag_Profile_IM_BirthDay", "19990102"))))));

        steps.step("a profile is read", () -> {
            JsonNode answer = ok(told(profiles.portraitGet(7, new PortraitGetRequest()
                    .toAccount(List.of(AMY, NOBODY)).tagList(List.of("Tag_Profile_IM_Nick",
                            "Tag_Profile_IM_Gender", "Tag_Profile_IM_Location", "Tag_Profile_IM_BirthDay")))));
            items(answer.path("UserProfileItem"), "jv-amy 0, jv-nobody 40003", "To_Account", "ResultCode");
            Map<String, JsonNode> amy = values(answer.path("UserProfileItem").path(0).path("ProfileItem"));
            same(amy.get("Tag_Profile_IM_Nick").asText(), "Amy");
            same(amy.get("Tag_Profile_IM_Gender").asText(), "Gender_Type_Female");
            same(amy.get("Tag_Profile_IM_Location").asText(), "Wien");
            same(amy.get("Tag_Profile_IM_BirthDay").asInt(), 0);
            same(strings(answer.path("Fail_Account")), List.of(NOBODY));
        });

        steps.step("friends are added, as each allows it", () -> {
            FriendAddRequest request = new FriendAddRequest().fromAccount(AMY).addType("Add_Type_Both");
            request.addAddFriendItemItem(friend(BOB).remark("B").groupName("work").addWording("hi"));
            request.addAddFriendItemItem(friend(CARL)).addAddFriendItemItem(friend(NOBODY));
            results(told(sns.friendAdd(8, request)), "jv-bob 0, "
                    + "jv-carl 30516 Err_SNS_FriendAdd_Friend_Allow_Type_Forbid, "
                    + "jv-nobody 30003 Err_SNS_FriendAdd_Account_Not_Exist", CARL, NOBODY);
        });

        steps.step("a friend is added by force, another twice", () -> {
            FriendAddRequest request = new FriendAddRequest().fromAccount(AMY)
                    .forceAddFlags(FriendAddRequest.ForceAddFlagsEnum.NUMBER_1)
                    .addAddFriendItemItem(friend(CARL)).addAddFriendItemItem(friend(BOB));
            results(told(sns.friendAdd(9, request)),
                    "jv-carl 0, jv-bob 30001 Err_SNS_FriendAdd_Friend_Exist", BOB);
        });

        steps.step("a friend is updated", () -> {
            FriendUpdateRequestUpdateItemInner item = new FriendUpdateRequestUpdateItemInner().toAccount(BOB)
                    .addSnsItemItem(new FriendUpdateRequestUpdateItemInnerSnsItemInner()
                            .tag("Tag_SNS_IM_Remark").value("Bobby"));
            results(told(sns.friendUpdate(10, new FriendUpdateRequest().fromAccount(AMY).addUpdateItemItem(item))),
                    "jv-bob 0");
        });

        steps.step("chosen friends are read", () -> {
            FriendGetListRequest request = new FriendGetListRequest().fromAccount(AMY).toAccount(List.of(BOB, EVE))
                    .tagList(List.of("Tag_Profile_IM_Nick", "Tag_SNS_IM_Remark", "Tag_SNS_IM_AddSource"));
            JsonNode answer = ok(told(sns.friendGetList(11, request)));
            items(answer.path("InfoItem"), "jv-bob 0, jv-eve 30001 Err_SNS_FriendGetList_Friend_Not_Exist",
                    "To_Account", "ResultCode", "ResultInfo");
            Map<String, JsonNode> bob = values(answer.path("InfoItem").path(0).path("SnsProfileItem"));
            same(bob.toString().contains("Bobby") && bob.toString().contains(SOURCE), true);
            same(bob.get("Tag_Profile_IM_Nick").asText(), "");
            same(answer.path("InfoItem").path(1).has("SnsProfileItem"), false);
        });

        steps.step("friends are imported, and read over several pages", () -> {
            FriendImportRequest request = new FriendImportRequest().fromAccount(FRED);
            for (String name : CROWD) {
                request.addAddFriendItemItem(new FriendImportRequestAddFriendItemInner().toAccount(name)
                        .addSource(SOURCE).groupName(List.of("all", "few")).addTime(1600000000));
            }
            same(ok(told(sns.friendImport(12, request))).path("ResultItem").size(), CROWD.size());
            TreeSet<String> found = new TreeSet<>();
            int pages = 0;
            for (int start = 0, complete = 0; complete == 0; pages++) {
                FriendGetResponse page = sns.friendGet(13, new FriendGetRequest().fromAccount(FRED).startIndex(start));
                ok(told(page));
                for (FriendGetResponseAllOfUserDataItem item : page.getUserDataItem()) {
                    same(found.add(item.getToAccount()), true);
                    for (FriendGetResponseAllOfValueItem value : item.getValueItem()) {
                        switch (value.getTag()) {
                            case "Tag_SNS_IM_Group" -> same(value.getValue(), List.of("all", "few"));
                            case "Tag_SNS_IM_AddTime" -> same(((Number) value.getValue()).intValue(), 1600000000);
                            default -> same(value.getValue(), SOURCE);
                        }
                    }
                }
                same(page.getFriendNum(), CROWD.size());
                start = page.getNextStartIndex();
                complete = page.getCompleteFlag();
            }
            same(new ArrayList<>(found), CROWD);
            same(pages > 1, true);
        });

        steps.step("friends are checked, one way and both ways", () -> {
            FriendCheckRequest request = new FriendCheckRequest().fromAccount(AMY).toAccount(List.of(BOB, EVE));
            items(ok(told(sns.friendCheck(14, request.checkType("CheckResult_Type_Both")))).path("InfoItem"),
                    "jv-bob CheckResult_Type_BothWay 0, jv-eve CheckResult_Type_NoRelation 0",
                    "To_Account", "Relation", "ResultCode");
            items(ok(told(sns.friendCheck(15, request.checkType("CheckResult_Type_Single")))).path("InfoItem"),
                    "CheckResult_Type_AWithB, CheckResult_Type_NoRelation", "Relation");
        });

        steps.step("groups are added, read and deleted", () -> {
            JsonNode added = told(sns.groupAdd(16, new GroupAddRequest().fromAccount(AMY)
                    .groupName(List.of("team")).toAccount(List.of(CARL, EVE))));
            results(added, "jv-carl 0, jv-eve 30001 Err_SNS_GroupAdd_Friend_Not_Exist", EVE);
            GroupGetRequest request = new GroupGetRequest().fromAccount(AMY).groupName(List.of("team"));
            items(ok(told(sns.groupGet(17, request.needFriend("Need_Friend_Type_Yes")))).path("ResultItem"),
                    "team 1 [\"jv-carl\"]", "GroupName", "FriendNumber", "To_Account");
            JsonNode deleted = ok(told(sns.groupDelete(18, new GroupDeleteRequest().fromAccount(AMY)
                    .groupName(List.of("team")))));
            same(deleted.path("CurrentSequence").asInt() > added.path("CurrentSequence").asInt(), true);
            items(ok(told(sns.groupGet(19, new GroupGetRequest().fromAccount(AMY)))).path("ResultItem"),
                    "work 1", "GroupName", "FriendNumber", "To_Account");
        });

        steps.step("a block ends the friendship, both ways", () -> {
            BlackListAddRequest request = new BlackListAddRequest().fromAccount(AMY).toAccount(List.of(BOB));
            results(told(sns.blackListAdd(20, request)), "jv-bob 0");
            results(told(sns.blackListAdd(21, request)), "jv-bob 30001 Err_SNS_BlackListAdd_Already_Exist", BOB);
            items(ok(told(sns.friendCheck(22, new FriendCheckRequest().fromAccount(AMY)
                    .toAccount(List.of(BOB)).checkType("CheckResult_Type_Both")))).path("InfoItem"),
                    "CheckResult_Type_NoRelation", "Relation");
        });

        steps.step("blocks are checked, one way and both ways", () -> {
            BlackListCheckRequest request = new BlackListCheckRequest().fromAccount(BOB).toAccount(List.of(AMY, EVE));
            JsonNode both = ok(told(sns.blackListCheck(23, request.checkType("BlackCheckResult_Type_Both"))));
            items(both.path("BlackListCheckItem"),
                    "jv-amy BlackCheckResult_Type_BWithA 0, jv-eve BlackCheckResult_Type_NO 0",
                    "To_Account", "Relation", "ResultCode");
            JsonNode single = ok(told(sns.blackListCheck(24, request.checkType("BlackCheckResult_Type_Single"))));
            items(single.path("BlackListCheckItem"), "BlackCheckResult_Type_NO, BlackCheckResult_Type_NO", "Relation");
        });

        steps.step("a blocklist is read to its end marker", () -> {
            List<String> blocked = CROWD.subList(0, 5);
            ok(told(sns.blackListAdd(25, new BlackListAddRequest().fromAccount(EVE).toAccount(blocked))));
            List<String> found = new ArrayList<>();
            List<Integer> starts = new ArrayList<>();
            int start = 0;
            do {
                BlackListGetResponse page = sns.blackListGet(26, new BlackListGetRequest()
                        .fromAccount(EVE).startIndex(start).maxLimited(2).lastSequence(0));
                ok(told(page));
                page.getBlackListItem().forEach(item -> found.add(item.getToAccount()));
                same(page.getBlackListItem().get(0).getAddBlackTimeStamp() > 1700000000, true);
                same(page.getCurruentSequence() > 0, true);
                starts.add(start = page.getStartIndex());
            } while (start != 0);
            same(found, blocked);
            same(starts, List.of(2, 4, 0));
        });

        steps.step("a message is sent, past a block", () -> {
            SendSingleChatMsgResponse sent = chat.sendmsg(27, new SendSingleChatMsgRequest().fromAccount(BOB)
                    .toAccount(AMY).msgSeq(7).msgRandom(8).addMsgBodyItem(text("hi")));
            ok(told(sent));
            same(sent.getMsgKey(), "7_8_" + sent.getMsgTime());
        });

        steps.step("a message is sent to many: some, none", () -> {
            BatchSendSingleChatMsgRequest request = new BatchSendSingleChatMsgRequest().msgRandom(9)
                    .addMsgBodyItem(text("hi"));
            BatchSendSingleChatMsgResponse some = chat.batchsendmsg(28, request.toAccount(List.of(AMY, NOBODY)));
            same(envelope(told(some)), "SomeError 0 ");
            same(some.getMsgKey().isEmpty(), false);
            items(told(some).path("ErrorList"), "jv-nobody 70107", "To_Account", "ErrorCode");
            failed(90012, told(chat.batchsendmsg(29, request.toAccount(List.of(NOBODY)))));
        });

        steps.step("a blocked user is let go", () ->
                results(told(sns.blackListDelete(30, new BlackListDeleteRequest().fromAccount(AMY)
                        .toAccount(List.of(BOB)))), "jv-bob 0"));

        steps.step("friends are deleted: one, and all", () -> {
            FriendDeleteRequest one = new FriendDeleteRequest().fromAccount(AMY).toAccount(List.of(CARL))
                    .deleteType("Delete_Type_Both");
            results(told(sns.friendDelete(31, one)), "jv-carl 0");
            results(told(sns.friendDelete(32, one)), "jv-carl 31704 Err_SNS_FriendDelete_Not_Friend");
            ok(told(sns.friendDeleteAll(33, new FriendDeleteAllRequest().fromAccount(FRED)
                    .deleteType("Delete_Type_Both"))));
            FriendGetResponse left = sns.friendGet(34, new FriendGetRequest().fromAccount(FRED).startIndex(0));
            same(List.of(left.getFriendNum(), left.getCompleteFlag(), left.getNextStartIndex()), List.of(0, 1, 0));
            same(left.getUserDataItem(), List.of());
        });

        steps.step("accounts are deleted, once", () -> {
            AccountDeleteRequest request = new AccountDeleteRequest();
            for (String name : List.of(AMY, NOBODY)) {
                request.addDeleteItemItem(new AccountDeleteRequestDeleteItemInner().userID(name));
            }
            items(ok(told(accounts.accountDelete(35, request))).path("ResultItem"),
                    "jv-amy 0, jv-nobody 70107 Err_TLS_PT_Open_Login_Account_Not_Exist",
                    "UserID", "ResultCode", "ResultInfo");
        });

        steps.step("another key is refused: 70009", () ->
                failed(70009, told(new RelationshipsApi(client(KEY.replace('0', '1')))
                        .friendGet(36, new FriendGetRequest().fromAccount(BOB).startIndex(0)))));
        steps.end();
    }

    private static ApiClient client(String key) {
        ApiClient client = new ApiClient().setBasePath(System.getenv("SERVER_URL"));
        client.setSdkappid(APP);
        client.setIdentifier(ADMIN);
        client.setKey(key);
        return client;
    }

    /** What the SDK made of an answer, by its own names. */
    private static JsonNode told(Object answer) throws IOException {
        return json(JSON.getGson().toJson(answer));
    }

    private static PortraitSetRequestProfileItemInner profile(String tag, String value) {
        return new PortraitSetRequestProfileItemInner().tag(tag).value(value);
    }

    private static FriendAddRequestAddFriendItemInner friend(String name) {
        return new FriendAddRequestAddFriendItemInner().toAccount(name).addSource(SOURCE);
    }

    private static TIMMsgElement text(String text) {
        return new TIMMsgElement(new TIMTextElem().msgType("TIMTextElem")
                .msgContent(new TIMTextElemMsgContent().text(text)));
    }
}
