// SPDX-License-Identifier: Apache-2.0

// Arguments: lookup, resolve, http or fetch; a name or a URL; how many times. Prints a line of addresses for each.
const dns = require('node:dns').promises
const http = require('node:http')

const none = (error) => { if (error.code === 'ENODATA') return []; throw error }

const ways = {
  lookup: async (name) => (await dns.lookup(name, { all: true })).map((found) => found.address),
  resolve: async (name) => [...await dns.resolve6(name).catch(none), ...await dns.resolve4(name).catch(none)],
  fetch: async (url) => [(await (await fetch(url)).text()).trim()],
  http: (url) => new Promise((resolve, reject) => http.get(url, { agent: false }, (reply) => {
    let text = ''
    reply.on('data', (part) => { text += part }).on('end', () => resolve([text.trim()]))
  }).on('error', reject)),
}

async function main ([way, what, times]) {
  for (let n = 0; n < times; n++) console.log((await ways[way](what)).join(' '))
}

main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1) })
