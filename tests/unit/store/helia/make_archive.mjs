// Helia 7.1 and ipfs-unixfs-importer 17.1: a folder with small files, one of several blocks, and a sharded folder.
//
// node make_archive.mjs cid_v1.car       SHA-256 CIDs of version 1, raw leaves
// node make_archive.mjs cid_v0.car v0    CIDs of version 0, every leaf in dag-pb
import { createWriteStream } from 'node:fs'
import { car } from '@helia/car'
import { unixfs } from '@helia/unixfs'
import { createHeliaLight } from 'helia'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
const helia = createHeliaLight()
await helia.start()
const fs = unixfs(helia)
const bytes = (n) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 0xff)
const source = [
  { path: 'top/hello.txt', content: new TextEncoder().encode('hello from Helia\n') },
  { path: 'top/again.txt', content: new TextEncoder().encode('hello from Helia\n') },
  { path: 'top/empty', content: new Uint8Array(0) },
  { path: 'top/äöü/deep/blocks.bin', content: bytes(3000) },
]
for (let i = 0; i < 40; i++) source.push({ path: `top/many/file ${i}`, content: new TextEncoder().encode(`number ${i}`) })
let root
for await (const entry of fs.addAll(source, { chunker: fixedSize({ chunkSize: 512 }), shardSplitThresholdBytes: 1000, rawLeaves: process.argv[3] !== 'v0', cidVersion: process.argv[3] === 'v0' ? 0 : 1 })) root = entry.cid
const out = createWriteStream(process.argv[2])
for await (const part of car(helia).export(root)) out.write(part)
out.end()
await new Promise((resolve) => out.on('close', resolve))
console.log(root.toString())
await helia.stop()
process.exit(0)
