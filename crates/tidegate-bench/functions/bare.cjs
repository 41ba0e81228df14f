// Node's own HTTP server before hello.cjs: the ceiling for any host written in JavaScript.

const http = require("node:http");
const { handler } = require("./hello.cjs");

const server = http.createServer(handler);
server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
