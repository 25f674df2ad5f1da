// One small service of the end-to-end tests, run three times: shop asks stock, stock asks price, each with one more try
// after a failure. Started with the SDK's own register hook and configured by environment variables alone, as most
// people run it. Prints its address when it listens.
//
//   NAME   what it is; NEXT  base URL of the service it asks, none for the last
'use strict';

const express = require('express');
const http = require('http');

const { NAME, NEXT } = process.env;
const tries = 2;

// Two HTTP clients, because their instrumentations differ: fetch (undici) and the http module.
const clients = {
  shop: async (url) => {
    const res = await fetch(url);
    await res.arrayBuffer();
    return res.status;
  },
  stock: (url) => new Promise((resolve, reject) => {
    http.get(url, (res) => {
      res.resume();
      res.on('end', () => resolve(res.statusCode));
    }).on('error', reject);
  }),
};

async function ask(url) {
  let status = 503;
  for (let i = 0; i < tries && status >= 500; i++) {
    status = await clients[NAME](url);
  }
  return status;
}

const app = express();
app.get('/items/:id', async (req, res) => {
  if (NEXT) {
    res.sendStatus(await ask(`${NEXT}/items/${req.params.id}`));
  } else {
    res.sendStatus(req.params.id.startsWith('broken') ? 503 : 200);
  }
});

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`listening http://127.0.0.1:${server.address().port}`);
});
process.on('SIGTERM', () => server.close());
