// What the suite makes of results: outcomes.mjs SUITE RESULTS… prints, as JSON, each test with its outcome in
// each file of results, and what was seen there.
import fs from 'node:fs'
import path from 'node:path'

const [folder, ...files] = process.argv.slice(2)
const load = (name) => import(path.resolve(folder, name))
const { default: groups } = await load('tests/index.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')

const words = new Map(Object.entries(resultTypes).map(([word, type]) => [type, word]))
const results = files.map(file => JSON.parse(fs.readFileSync(file)))
const plain = (name) => name.replace(/\s+/g, ' ').trim()
const tests = groups.flatMap(group => group.tests.map(test => ({
  id: test.id,
  name: plain(test.name),
  kind: test.kind ?? 'required',
  outcomes: results.map(it => words.get(determineTestResult(groups, test.id, it))),
  seen: results.map(it => Array.isArray(it[test.id]) ? it[test.id][1] : null)
})))
// The pipe may be smaller than what is written.
fs.writeFileSync(1, JSON.stringify(tests))
