// Greets whoever is named: an HTTP server on $PORT.

import { createServer, type ServerResponse } from "node:http";

const server = createServer(async (request, response) => {
  const { searchParams } = new URL(request.url ?? "/", "http://localhost");
  let name: string | null | undefined = searchParams.get("name");
  if (request.method === "POST") {
    let body = "";
    for await (const piece of request.setEncoding("utf8")) body += piece;
    try {
      name = (JSON.parse(body) as { name?: string } | null)?.name;
    } catch {
      return answer(response, 400, { error: "the body is not JSON" });
    }
  }
  answer(response, 200, { hello: name ?? "world" });
});

function answer(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
}

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
