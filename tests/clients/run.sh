#!/usr/bin/env bash
# Clients from the public registries against the real server: what their users would see.
#
#   cargo build && tests/clients/run.sh             # every client that this machine can run
#   tests/clients/run.sh python java-vendor         # only these
#   CORDON_BIN=/usr/bin/cordon tests/clients/run.sh # another server than target/debug/cordon
#
# A client is a program of named steps. It calls the server through its library alone, expects what
# rest-api.md says, and prints `ok STEP` or `FAIL STEP: why` for each. Where the library itself is
# wrong, a comment says so and the step expects what its users get. One that lacks its tools here is
# skipped, and the table at the end says why. Versions are pinned beside each program; downloads stay
# in the caches of npm, pip, Maven and cargo, all else in one temporary folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
readonly here root
readonly CLIENTS=(node-signer python-signer python java-vendor java-doocs rust)
# The server has this long to start, and to stop.
readonly PATIENCE_S=30

built=${CARGO_TARGET_DIR:-$root/target}
SERVER_BIN=$(realpath -m "${CORDON_BIN:-$built/debug/cordon}")
export SERVER_BIN
[ -x "$SERVER_BIN" ] || {
    echo "clients: no server at $SERVER_BIN; build it or set CORDON_BIN" >&2
    exit 1
}
# Settings of the caller's are not this server's.
unset "${!CORDON_@}"
work=$(mktemp -d)
server='' tls=''
finish() {
    [ -z "$tls" ] || kill "$tls" 2>/dev/null || true
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

has() {
    command -v "$1" >/dev/null
}

# Waits until a line of the file $2 that the process $1 writes matches $3, and prints what matched.
await() {
    local deadline=$((SECONDS + PATIENCE_S))
    until grep -m1 -oE "$3" "$2" 2>/dev/null; do
        kill -0 "$1" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

start() {
    export CORDON_APP_ID=1400000001 CORDON_APP_ADMIN=administrator
    export CORDON_APP_KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    export CORDON_DATA_DIR=$work/data
    CORDON_LISTEN=127.0.0.1:0 CORDON_OPS_LISTEN=127.0.0.1:0 \
        "$SERVER_BIN" serve >"$work/server.out" 2>"$work/server.log" &
    server=$!
    SERVER_URL=$(await "$server" "$work/server.out" 'http://[0-9.:]+') || {
        echo 'clients: the server did not start' >&2
        cat "$work/server.log" >&2
        exit 1
    }
    export SERVER_URL
    echo "clients: $SERVER_BIN listens on $SERVER_URL"
}

# The server must stop when asked, in order, and leave a journal that holds what it promised.
stop() {
    local deadline=$((SECONDS + PATIENCE_S)) status=0
    kill -TERM "$server"
    while kill -0 "$server" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || kill -KILL "$server"
        sleep 0.1
    done
    wait "$server" || status=$?
    server=''
    [ "$status" -eq 0 ] || {
        echo "clients: the server stopped with exit code $status" >&2
        tail -n 20 "$work/server.log" >&2
        return 1
    }
    "$SERVER_BIN" verify --data-dir "$CORDON_DATA_DIR" >"$work/verified" || {
        cat "$work/verified" >&2
        return 1
    }
    tail -n 1 "$work/verified"
}

# Some libraries know https only: TLS in front of the server, with the certificates of the tests.
behind_tls() {
    has python3 || {
        echo 'python3 is not installed (for TLS in front of the server)'
        return 1
    }
    export SERVER_CA=$root/tests/fixtures/tls/ca.pem
    [ -n "$tls" ] && return
    python3 "$here/https.py" "$SERVER_URL" "$root/tests/fixtures/tls/receiver" >"$work/tls" &
    tls=$!
    SERVER_HTTPS=$(await "$tls" "$work/tls" '127\.0\.0\.1:[0-9]+') || return
    export SERVER_HTTPS
}

# Each client has two parts. `get_X` brings its packages; where a tool is missing it says which on
# its standard output and answers with failure, and the client is skipped. `run_X` runs it.

get_node-signer() {
    has npm || {
        echo 'node and npm are not installed'
        return 1
    }
    cp "$here"/node/* "$work/node/"
    npm ci --prefix "$work/node" --no-audit --no-fund >&2
}
run_node-signer() {
    node "$work/node/signer.js"
}

get_python-signer() {
    has python3 || {
        echo 'python3 is not installed'
        return 1
    }
    [ -x "$work/python/bin/pip" ] && return
    python3 -m venv "$work/python" >&2 || {
        echo 'python3 cannot make environments (Debian: python3-venv)'
        return 1
    }
    "$work/python/bin/pip" install -q --disable-pip-version-check -r "$here/python/requirements.txt" >&2
}
run_python-signer() {
    "$work/python/bin/python" -B "$here/python/signer.py"
}
get_python() {
    get_python-signer
}
run_python() {
    "$work/python/bin/python" -B "$here/python/sdk.py"
}

get_java() {
    if ! has java || ! has mvn; then
        echo 'java and mvn are not installed'
        return 1
    fi
    [ -d "$work/java/classes" ] && return
    mvn -q -B -f "$here/java/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$work/java/libs" >"$work/java/maven" || {
        cat "$work/java/maven" >&2
        return 1
    }
    java -jar "$work"/java/libs/ecj-*.jar --release 17 -proc:none -failOnWarning \
        -cp "$(printf '%s:' "$work"/java/libs/*.jar)" -d "$work/java/classes" "$here/java" >&2
}
run_java() {
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$work/java/classes:$work/java/libs/*" "$@"
}
get_java-vendor() {
    get_java
}
run_java-vendor() {
    run_java Vendor
}
get_java-doocs() {
    get_java && behind_tls || return
    [ -f "$work/trust" ] || keytool -importcert -noprompt -alias tests -file "$SERVER_CA" \
        -keystore "$work/trust" -storetype PKCS12 -storepass changeit >&2
}
run_java-doocs() {
    run_java -Djavax.net.ssl.trustStore="$work/trust" -Djavax.net.ssl.trustStorePassword=changeit Doocs
}

get_rust() {
    has cargo || {
        echo 'cargo is not installed'
        return 1
    }
    # The library builds upon the OpenSSL of the machine.
    pkg-config --exists openssl 2>/dev/null || {
        echo 'OpenSSL cannot be built upon (Debian: libssl-dev, pkg-config)'
        return 1
    }
    behind_tls || return
    CARGO_TARGET_DIR=$built/clients \
        cargo build -q --locked --manifest-path "$here/rust/Cargo.toml" >&2
}
run_rust() {
    "$built/clients/debug/clients"
}

passed=0 failed=0 skipped=0 table=''

row() {
    table+=$(printf '%-14s %4s s  %s' "$1" "$2" "$3")$'\n'
}

client() {
    local name=$1 began=$SECONDS out=$work/$1.out ok=0 wrong=0 status=0
    printf '\n--> %s\n' "$name"
    mkdir -p "$work/${name%%-*}"
    if ! "get_$name" >"$work/why"; then
        if [ -s "$work/why" ]; then
            skipped=$((skipped + 1))
            row "$name" $((SECONDS - began)) "skipped: $(head -n 1 "$work/why")"
        else
            failed=$((failed + 1))
            row "$name" $((SECONDS - began)) 'FAILED: its packages could not be had'
        fi
        return
    fi
    "run_$name" 2>&1 | tee "$out" || status=$?
    ok=$(grep -c '^ok ' "$out" || true) wrong=$(grep -c '^FAIL ' "$out" || true)
    # A program that ends early, or without a step, has failed as well.
    if [ "$wrong" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$ok" -eq 0 ]; }; then
        wrong=1
    fi
    passed=$((passed + ok)) failed=$((failed + wrong))
    if [ "$wrong" -eq 0 ]; then
        row "$name" $((SECONDS - began)) "$ok steps"
    else
        row "$name" $((SECONDS - began)) "FAILED: $wrong of $((ok + wrong)) steps"
    fi
}

chosen=("$@")
[ ${#chosen[@]} -gt 0 ] || chosen=("${CLIENTS[@]}")
for name in "${chosen[@]}"; do
    [[ " ${CLIENTS[*]} " = *" $name "* ]] || {
        echo "clients: $name is none of: ${CLIENTS[*]}" >&2
        exit 2
    }
done

start
for name in "${chosen[@]}"; do
    client "$name"
done
printf '\n--> the server\n'
if stop; then
    row 'the server' 0 'stopped in order, and its journal holds'
else
    failed=$((failed + 1))
    row 'the server' 0 'FAILED: see above'
fi

printf '\n%s\nclients: %d passed, %d failed, %d skipped\n' "$table" "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
