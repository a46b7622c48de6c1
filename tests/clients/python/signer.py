"""The vendor's signer for Python, tls-sig-api-v2: its signatures are accepted or refused as at the
reference, and `cordon usersig` makes the same ones.
"""

import json
import os
import subprocess
import time
import zlib
from unittest import mock

import requests
import TLSSigAPIv2
from steps import Steps, same

URL = os.environ["SERVER_URL"]
APP = int(os.environ["CORDON_APP_ID"])
KEY = os.environ["CORDON_APP_KEY"]
ADMIN = os.environ["CORDON_APP_ADMIN"]
DAY_S = 86400
vendor = TLSSigAPIv2.TLSSigAPIv2(APP, KEY)
step = Steps()


def call(usersig, identifier=ADMIN):
    """The cheapest call: is the admin an account?"""
    answer = requests.post(
        f"{URL}/v4/im_open_login_svc/account_check",
        params={
            "sdkappid": APP,
            "identifier": identifier,
            "usersig": usersig,
            "random": 42,
            "contenttype": "json",
        },
        data=json.dumps({"CheckItem": [{"UserID": ADMIN}]}),
    )
    same(answer.status_code, 200)
    return answer.json()


def accepted(usersig):
    item = {"UserID": ADMIN, "ResultCode": 0, "ResultInfo": "", "AccountStatus": "Imported"}
    same(
        call(usersig),
        {"ResultItem": [item], "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""},
    )


def refused(code, usersig, identifier=ADMIN):
    answer = call(usersig, identifier)
    same((answer["ActionStatus"], answer["ErrorCode"]), ("FAIL", code))
    assert answer["ErrorInfo"], answer


def signed_ago(seconds, expire):
    """Signs with the clock of another time."""
    with mock.patch.object(TLSSigAPIv2.time, "time", lambda at=time.time() - seconds: at):
        return vendor.gen_sig(ADMIN, expire)


def opened(usersig):
    return json.loads(zlib.decompress(TLSSigAPIv2.base64_decode_url(usersig.encode())))


@step("a signature is accepted")
def _():
    accepted(vendor.gen_sig(ADMIN, DAY_S))


@step("with a userbuf too")
def _():
    accepted(vendor.gen_sig_with_userbuf(ADMIN, DAY_S, b"\x00room\xff"))


@step("made an hour ago for two it is accepted")
def _():
    accepted(signed_ago(3600, 7200))


@step("made two hours ago for one it is refused: 70001")
def _():
    refused(70001, signed_ago(7200, 3600))


@step("made with another key it is refused: 70009")
def _():
    refused(70009, TLSSigAPIv2.TLSSigAPIv2(APP, KEY.replace("0", "1")).gen_sig(ADMIN))


@step("made for another app it is refused: 70014")
def _():
    refused(70014, TLSSigAPIv2.TLSSigAPIv2(APP + 1, KEY).gen_sig(ADMIN))


@step("made for another account it is refused: 70013")
def _():
    refused(70013, vendor.gen_sig("amy"))


@step("made for who is no admin it is refused: 60010")
def _():
    refused(60010, vendor.gen_sig("amy"), "amy")


@step("cut short it is refused: 70003")
def _():
    refused(70003, vendor.gen_sig(ADMIN)[:40])


@step("cordon usersig signs what the library signs")
def _():
    command = [os.environ["SERVER_BIN"], "usersig", "--app-id", str(APP), "--key", KEY]
    command += ["--identifier", ADMIN, "--expire-s", str(DAY_S)]
    usersig = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    ours = opened(usersig)
    with mock.patch.object(TLSSigAPIv2.time, "time", lambda: ours["TLS.time"]):
        theirs = opened(vendor.gen_sig(ADMIN, DAY_S))
    same(ours, theirs)
    accepted(usersig)


step.end()
