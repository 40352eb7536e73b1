// Helia (npm): one node without routers and without addresses of its own, whose blocks come from an archive or by bitswap.
//
// node peer_helia.mjs car FILE CID...       imports FILE and reads the CIDs from it, with no network at all
// node peer_helia.mjs fetch ADDRESS CID...  dials ADDRESS and fetches the CIDs
//
// Prints a line of JSON for every CID: bytes, SHA-256 and seconds. A dag-pb or raw CID is read as a file; a dag-cbor one
// is decoded, and its raw links are read one after the other.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { withBitswap } from '@helia/bitswap'
import { car } from '@helia/car'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { CarReader } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { blake3 } from '@noble/hashes/blake3.js'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import { from } from 'multiformats/hashes/hasher'

const TIME_MAX_MS = 60_000
const hasher = from({ name: 'blake3', code: 0x1e, encode: (bytes) => blake3(bytes) })

async function blockOf (helia, cid, signal) {
  const parts = []
  for await (const part of helia.blockstore.get(cid, { signal })) parts.push(part)
  return Buffer.concat(parts)
}

async function * contentOf (helia, cid, signal) {
  if (cid.code !== dagCbor.code) {
    yield * unixfs(helia).cat(cid, { signal })
    return
  }
  for (const link of dagCbor.decode(await blockOf(helia, cid, signal)).links) yield await blockOf(helia, link, signal)
}

const [mode, place, ...names] = process.argv.slice(2)
let helia = createHeliaLight({ hashers: [hasher], codecs: [dagCbor] })
if (mode === 'fetch') {
  helia = withBitswap(withLibp2pLight(helia, {
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() }
  }))
}
await helia.start()
if (mode === 'fetch') {
  await helia.libp2p.dial(multiaddr(place), { signal: AbortSignal.timeout(TIME_MAX_MS) })
} else {
  await car(helia).import(await CarReader.fromIterable(createReadStream(place)))
}
for (const name of names) {
  const started = performance.now()
  const digest = createHash('sha256')
  let bytes = 0
  for await (const part of contentOf(helia, CID.parse(name), AbortSignal.timeout(TIME_MAX_MS))) {
    digest.update(part)
    bytes += part.length
  }
  const seconds = (performance.now() - started) / 1000
  console.log(JSON.stringify({ cid: name, bytes, sha256: digest.digest('hex'), seconds }))
}
await helia.stop()
process.exit(0)
