// The vendor's signer for Node.js, tls-sig-api-v2: its signatures are accepted or refused as at the
// reference, and `cordon usersig` makes the same ones.
'use strict'
const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const zlib = require('node:zlib')
const { Api } = require('tls-sig-api-v2')

const { SERVER_URL, SERVER_BIN, CORDON_APP_ID, CORDON_APP_KEY, CORDON_APP_ADMIN: ADMIN } = process.env
const APP = Number(CORDON_APP_ID)
const DAY_S = 86400
const vendor = new Api(APP, CORDON_APP_KEY)

// The cheapest call: is the admin an account?
async function call(usersig, identifier = ADMIN) {
  const query = `sdkappid=${APP}&identifier=${identifier}&usersig=${usersig}&random=42&contenttype=json`
  const answer = await fetch(`${SERVER_URL}/v4/im_open_login_svc/account_check?${query}`, {
    method: 'POST',
    body: JSON.stringify({ CheckItem: [{ UserID: ADMIN }] }),
  })
  assert.equal(answer.status, 200)
  return answer.json()
}

async function accepted(usersig) {
  assert.deepEqual(await call(usersig), {
    ResultItem: [{ UserID: ADMIN, ResultCode: 0, ResultInfo: '', AccountStatus: 'Imported' }],
    ActionStatus: 'OK',
    ErrorCode: 0,
    ErrorInfo: '',
  })
}

async function refused(code, usersig, identifier) {
  const answer = await call(usersig, identifier)
  assert.deepEqual([answer.ActionStatus, answer.ErrorCode], ['FAIL', code])
  assert.notEqual(answer.ErrorInfo, '')
}

// Signs with the clock of another time.
function signedAgo(seconds, expire) {
  const now = Date.now
  Date.now = () => now() - seconds * 1000
  try {
    return vendor.genUserSig(ADMIN, expire)
  } finally {
    Date.now = now
  }
}

function opened(usersig) {
  const base64 = usersig.replace(/\*/g, '+').replace(/-/g, '/').replace(/_/g, '=')
  return JSON.parse(zlib.inflateSync(Buffer.from(base64, 'base64')))
}

const steps = {
  'a signature is accepted': () => accepted(vendor.genUserSig(ADMIN, DAY_S)),
  'a percent-encoded one too': () =>
    accepted(vendor.genUserSig(ADMIN, DAY_S).replace(/[*_-]/g, (c) => '%' + c.charCodeAt().toString(16))),
  'with a userbuf too': () => accepted(vendor.genPrivateMapKey(ADMIN, DAY_S, 10000, 255)),
  'with a userbuf that names its room in words too': () =>
    accepted(vendor.genPrivateMapKeyWithStringRoomID(ADMIN, DAY_S, 'room', 255)),
  'made an hour ago for two it is accepted': () => accepted(signedAgo(3600, 7200)),
  'made two hours ago for one it is refused: 70001': () => refused(70001, signedAgo(7200, 3600)),
  'made with another key it is refused: 70009': () =>
    refused(70009, new Api(APP, CORDON_APP_KEY.replace('0', '1')).genUserSig(ADMIN, DAY_S)),
  'made for another app it is refused: 70014': () =>
    refused(70014, new Api(APP + 1, CORDON_APP_KEY).genUserSig(ADMIN, DAY_S)),
  'made for another account it is refused: 70013': () =>
    refused(70013, vendor.genUserSig('amy', DAY_S)),
  'made for who is no admin it is refused: 60010': () =>
    refused(60010, vendor.genUserSig('amy', DAY_S), 'amy'),
  'cut short it is refused: 70003': () => refused(70003, vendor.genUserSig(ADMIN, DAY_S).slice(0, 40)),
  'cordon usersig signs what the library signs': async () => {
    const args = ['usersig', '--app-id', APP, '--key', CORDON_APP_KEY, '--identifier', ADMIN]
    const usersig = execFileSync(SERVER_BIN, [...args, '--expire-s', DAY_S], { encoding: 'utf8' }).trim()
    const ours = opened(usersig)
    const theirs = opened(vendor.genUserSig(ADMIN, DAY_S))
    const time = ours['TLS.time']
    assert.ok(Math.abs(theirs['TLS.time'] - time) < 60)
    theirs['TLS.time'] = time
    theirs['TLS.sig'] = vendor._hmacsha256(ADMIN, time, DAY_S)
    assert.deepEqual(ours, theirs)
    await accepted(usersig)
  },
}

async function main() {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step()
      console.log(`ok ${name}`)
    } catch (error) {
      process.exitCode = 1
      console.log(`FAIL ${name}: ${error.message.replace(/\s+/g, ' ')}`)
    }
  }
}

main()
