"""What schemathesis has to know beyond schemas/openapi.json: who calls, whom to ask about, and the
promises of the batch contract that a schema cannot make.

Everything is decided by the request itself, so the same seed makes the same run.
"""

import hashlib
import json
import os

import schemathesis
from schemathesis.core.parameters import ParameterLocation

CALLER = json.loads(os.environ["CORDON_FUZZ_QUERY"])
ACCOUNTS = os.environ["CORDON_FUZZ_ACCOUNTS"].split(",")

# Of this many requests with a damaged query one is sent as it is; the others would all end at the door.
DAMAGED_QUERY_ONE_OF = 8
# Of this many requests with an Idempotency-Key one keeps it: a key of another body is refused.
KEYED_ONE_OF = 4
# Of this many accounts one stays as it was made up; the others become accounts that exist.
STRANGER_ONE_OF = 8

ACCOUNT_FIELDS = {"From_Account", "To_Account", "UserID", "Identifier", "Accounts"}
# Deleting everybody would leave nobody to ask about, so it is always these, who are imported again.
DELETED = {"/v4/im_open_login_svc/account_delete": ACCOUNTS[-2:]}

# Where the entries of a request stand, and the results of an answer.
ENTRIES = ("To_Account", "AddFriendItem", "UpdateItem", "ResponseFriendItem", "DeleteItem", "CheckItem")
RESULTS = ("ResultItem", "InfoItem", "BlackListCheckItem", "UserProfileItem", "MessageCheckItem")
# Answers whose ResultItem is no list of results.
NO_RESULTS = {"/v4/sns/group_get"}


def digest(*parts):
    text = json.dumps(parts, sort_keys=True, default=repr)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def known(value, accounts, salt):
    """The same accounts as before, most of them exchanged for some of `accounts`."""
    if isinstance(value, list):
        return [known(item, accounts, (salt, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        choice = digest(value, salt)
        stays = choice % STRANGER_ONE_OF == 0 and value not in ACCOUNTS
        return value if stays else accounts[choice // STRANGER_ONE_OF % len(accounts)]
    return populated(value, accounts, salt)


def populated(body, accounts, salt):
    if isinstance(body, list):
        return [populated(item, accounts, (salt, index)) for index, item in enumerate(body)]
    if isinstance(body, dict):
        return {
            name: (known if name in ACCOUNT_FIELDS else populated)(value, accounts, salt)
            for name, value in body.items()
        }
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    choice = digest(case.path, case.query, case.body if case.body.__class__ in (dict, list) else "")
    damaged = case.meta is not None and case.meta.is_negative_at(ParameterLocation.QUERY)
    if not damaged or choice % DAMAGED_QUERY_ONE_OF != 0:
        case.query = {**(case.query or {}), **CALLER}
    if case.headers and "Idempotency-Key" in case.headers and choice % KEYED_ONE_OF != 0:
        del case.headers["Idempotency-Key"]
    case.body = populated(case.body, DELETED.get(case.path, ACCOUNTS), choice)


@schemathesis.check
def one_result_per_entry_in_request_order(ctx, response, case):
    answer = response.json() if response.content else {}
    if case.path in NO_RESULTS or not isinstance(case.body, dict):
        return
    results = next((answer[name] for name in RESULTS if name in answer), None)
    entries = next((case.body[name] for name in ENTRIES if isinstance(case.body.get(name), list)), None)
    if results is None or entries is None:
        return
    asked = [e if isinstance(e, str) else (e or {}).get("To_Account", (e or {}).get("UserID")) for e in entries]
    told = [r.get("To_Account", r.get("UserID")) for r in results]
    # An entry without a legal name may be answered under any.
    same = len(asked) == len(told) and all(a == t for a, t in zip(asked, told) if isinstance(a, str))
    assert same, f"asked about {asked}, answered about {told}"
    failed = [r["To_Account"] for r in results if r["ResultCode"] != 0 and "To_Account" in r]
    if "Fail_Account" in answer:
        assert answer["Fail_Account"] == failed, f"failed: {failed}"


@schemathesis.check
class EveryServedCallSucceedsAtTimes:
    """A run whose requests all fail would prove little. Tells which codes were met."""

    def __init__(self):
        self.codes = {}
        self.entries = {}

    def after_response(self, ctx, response, case):
        answer = response.json() if response.content else {}
        self.codes.setdefault(case.path, set()).add(answer.get("ErrorCode"))
        for name in RESULTS:
            met = {result.get("ResultCode") for result in answer.get(name, [])}
            self.entries.setdefault(case.path, set()).update(met)

    def after_run(self, ctx):
        for path, codes in sorted(self.codes.items()):
            print(f"{path}: {told(codes)}; entries: {told(self.entries[path])}")
        served = {path: codes for path, codes in self.codes.items() if 60009 not in codes}
        barren = sorted(path for path, codes in served.items() if 0 not in codes)
        assert served, "not one call is served"
        assert not barren, "these never succeeded: " + ", ".join(barren)


def told(codes):
    return ", ".join(map(str, sorted(code for code in codes if code is not None))) or "none"
