// Helia (npm) with blocks in files (blockstore-fs), pins in a datastore in files (datastore-fs), and no network.
//
// node peer_helia_gc.mjs DIRECTORY DAGS GARBAGE
//
// Pins DAGS of three blocks each, then puts GARBAGE blocks of 1 KiB that nothing pins and collects. Prints a line of
// JSON: seconds for the pins, seconds for the collection, and how many blocks it removed.
import { FsBlockstore } from 'blockstore-fs'
import { FsDatastore } from 'datastore-fs'
import * as dagCbor from '@ipld/dag-cbor'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'

const [directory, dags, garbage] = process.argv.slice(2)
const blockstore = new FsBlockstore(`${directory}/blocks`)
const datastore = new FsDatastore(`${directory}/data`)
await blockstore.open()
await datastore.open()
const helia = createHeliaLight({ blockstore, datastore, codecs: [dagCbor] })
await helia.start()

async function put (codec, data) {
  const cid = CID.createV1(codec, await sha256.digest(data))
  await helia.blockstore.put(cid, data)
  return cid
}

const text = new TextEncoder()
const roots = []
for (let number = 0; number < Number(dags); number++) {
  const links = []
  for (const side of [0, 1]) links.push(await put(raw.code, text.encode(`leaf ${number} ${side}`)))
  roots.push(await put(dagCbor.code, dagCbor.encode({ links })))
}
let started = performance.now()
for (const root of roots) {
  for await (const cid of helia.pins.add(root)) void cid
}
const pinS = (performance.now() - started) / 1000

for (let number = 0; number < Number(garbage); number++) {
  const data = new Uint8Array(1024)
  new DataView(data.buffer).setUint32(0, number)
  await put(raw.code, data)
}
let removed = 0
started = performance.now()
await helia.gc({ onProgress: (event) => { if (event.type === 'helia:gc:deleted') removed++ } })
const gcS = (performance.now() - started) / 1000
console.log(JSON.stringify({ pin_s: pinS, gc_s: gcS, removed }))
await helia.stop()
process.exit(0)
