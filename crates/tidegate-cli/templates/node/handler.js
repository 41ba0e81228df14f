// Greets whoever is named.

export default async function handle(request) {
  let name = new URL(request.url).searchParams.get("name");
  if (request.method === "POST") {
    try {
      name = (await request.json())?.name;
    } catch {
      return Response.json({ error: "the body is not JSON" }, { status: 400 });
    }
  }
  console.log(`greeting ${name ?? "nobody in particular"}`);
  return Response.json({ hello: name ?? "world" });
}
