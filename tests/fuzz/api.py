#!/usr/bin/env python3
"""Fuzzes the API of a real node from schemas/openapi.json, for a bounded time.

    python3 tests/fuzz/api.py [--seconds 75] [--seed 1] [--program target/debug/cordon]

Right and wrong requests are made up from the description, by schemathesis; every answer has to be
HTTP 200, JSON and as described. Afterwards the node has to live, to stop with exit code 0 when it is
asked to, to have logged no panic, and to leave a journal that `cordon verify` finds no fault with.

Exit codes: 0 all of it held, 1 it did not, 77 schemathesis cannot be had.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tests" / "fuzz"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

CANNOT = 77
READY_S = 60
STOP_S = 60
VERIFY_S = 120
# What schemathesis may take beyond its time: making up the first requests, shrinking, reporting.
GRACE_S = 240

APP, KEY, ADMIN = "1400000001", "0123456789abcdef" * 4, "administrator"
ACCOUNTS = ["amy", "bob", "carl", "dora", "eve", "fred", "gina", "hugo"]

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "one_result_per_entry_in_request_order",
    "EveryServedCallSucceedsAtTimes",
]


class Failed(Exception):
    """What did not hold."""


def schemathesis():
    """The pinned version, in an environment of its own below `target`."""
    pins = (FUZZ / "requirements.txt").read_text()
    home = TARGET / "fuzz" / "venv"
    done = home / "pins.txt"
    if not done.exists() or done.read_text() != pins:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(FUZZ / "requirements.txt")], check=True)
        done.write_text(pins)
    return home / "bin" / "schemathesis"


class Node:
    """`cordon serve` with an app, on free ports, in a folder of its own."""

    def __init__(self, program, folder):
        self.program, self.data, self.log = program, folder / "data", folder / "log.txt"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("CORDON_")}
        self.env.update(
            CORDON_LISTEN="127.0.0.1:0",
            CORDON_OPS_LISTEN="127.0.0.1:0",
            CORDON_DATA_DIR=str(self.data),
            CORDON_APP_ID=APP,
            CORDON_APP_KEY=KEY,
            CORDON_APP_ADMIN=ADMIN,
            CORDON_RATE_LIMITS="off",
        )
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [program, "serve"], env=self.env, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.url = self._address()

    def _address(self):
        found = []

        def read():
            for line in self.process.stdout:
                if line.startswith("cordon listens on "):
                    found.append(line.split()[-1])

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + READY_S
        while not found:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the node did not start:\n{self.log.read_text()}")
            time.sleep(0.01)
        return found[0]

    def usersig(self):
        arguments = ["usersig", "--app-id", APP, "--key", KEY, "--identifier", ADMIN]
        signed = subprocess.run(
            [self.program, *arguments], env=self.env, cwd=self.data.parent, check=True, capture_output=True, text=True
        )
        return signed.stdout.strip()

    def end(self):
        """Holds the node to what it promises for afterwards."""
        if self.process.poll() is not None:
            raise Failed(f"the node died with {self.process.returncode}:\n{tail(self.log)}")
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(STOP_S) != 0:
            raise Failed(f"the node stopped with {self.process.returncode}:\n{tail(self.log)}")
        if "panicked" in self.log.read_text(errors="replace"):
            raise Failed(f"the node panicked:\n{tail(self.log)}")
        verified = subprocess.run(
            [self.program, "verify", "--data-dir", str(self.data)],
            env=self.env, cwd=self.data.parent, timeout=VERIFY_S, capture_output=True, text=True,
        )
        print(verified.stdout, end="")
        if verified.returncode != 0:
            raise Failed(f"cordon verify: {verified.stdout}{verified.stderr}")


def tail(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def seed(url, query):
    """Something to find: friends, groups, blocks, profiles, a pending request."""

    def call(command, body):
        request = urllib.request.Request(
            f"{url}/v4/{command}?{urllib.parse.urlencode(query)}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=READY_S) as answer:
            code = json.load(answer)["ErrorCode"]
        if code not in (0, 60009):
            raise Failed(f"{command} answered {code}")

    def wanted(*names):
        return [{"To_Account": name, "AddSource": "AddSource_Type_test", "AddWording": "hello"} for name in names]

    call("im_open_login_svc/multiaccount_import", {"Accounts": ACCOUNTS})
    call("sns/friend_add", {"From_Account": "amy", "AddFriendItem": wanted("bob", "carl", "dora")})
    call("sns/friend_import", {"From_Account": "bob", "AddFriendItem": wanted("eve", "fred")})
    call("sns/group_add", {"From_Account": "amy", "GroupName": ["work", "chess"], "To_Account": ["bob", "carl"]})
    call("sns/black_list_add", {"From_Account": "amy", "To_Account": ["gina", "hugo"]})
    confirm = {"Tag": "Tag_Profile_IM_AllowType", "Value": "AllowType_Type_NeedConfirm"}
    call("profile/portrait_set", {"From_Account": "dora", "ProfileItem": [confirm]})
    call("sns/friend_add", {"From_Account": "eve", "AddFriendItem": wanted("dora")})


def fuzz(program, node, query, seconds, seed_number, reports):
    env = dict(
        os.environ,
        PYTHONDONTWRITEBYTECODE="1",
        SCHEMATHESIS_HOOKS=str(FUZZ / "hooks.py"),
        CORDON_FUZZ_QUERY=json.dumps(query),
        CORDON_FUZZ_ACCOUNTS=",".join(ACCOUNTS),
    )
    command = [
        str(program), "run", str(ROOT / "schemas" / "openapi.json"), "--url", node.url,
        "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-time", str(seconds),
        "--seed", str(seed_number), "--generation-database", "none", "--checks", ",".join(CHECKS),
        "--continue-on-failure", "--request-timeout", "10", "--suppress-health-check", "all",
        "--warnings", "off", "--no-color", "--report", "junit", "--report-dir", str(reports),
    ]  # fmt: skip
    ran = subprocess.run(command, env=env, cwd=reports, timeout=seconds + GRACE_S)
    if ran.returncode != 0:
        raise Failed("answers are not as described; the requests are shown above")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=75, help="how long requests are made up")
    parser.add_argument("--seed", type=int, default=1, help="another one makes up other requests")
    parser.add_argument("--program", default=str(TARGET / "debug" / "cordon"), help="the program to run")
    arguments = parser.parse_args()
    try:
        program = schemathesis()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"schemathesis cannot be had: {error}", file=sys.stderr)
        return CANNOT
    with tempfile.TemporaryDirectory(prefix="cordon-fuzz-") as folder:
        node = None
        try:
            node = Node(arguments.program, pathlib.Path(folder))
            query = {"sdkappid": APP, "identifier": ADMIN, "usersig": node.usersig(), "contenttype": "json"}
            seed(node.url, query)
            try:
                fuzz(program, node, query, arguments.seconds, arguments.seed, folder)
            finally:
                node.end()
        except (Failed, subprocess.SubprocessError, OSError) as failure:
            print(f"api fuzz: {failure}", file=sys.stderr)
            return 1
        finally:
            if node is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
