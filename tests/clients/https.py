"""TLS in front of a server on this machine: https.py http://HOST:PORT PATH

PATH.pem and PATH.key are the certificate and its key. Prints the address it listens on, and ends
when it is told to.
"""

import asyncio
import ssl
import sys
from urllib.parse import urlsplit

CHUNK_BYTES = 65536


async def pump(reader, writer):
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(url, path):
    server = urlsplit(url)

    async def connected(reader, writer):
        try:
            there = await asyncio.open_connection(server.hostname, server.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path + ".pem", path + ".key")
    front = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    print("%s:%d" % front.sockets[0].getsockname(), flush=True)
    await front.serve_forever()


asyncio.run(main(*sys.argv[1:]))
