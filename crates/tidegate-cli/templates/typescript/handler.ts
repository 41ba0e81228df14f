// Greets whoever is named.

interface Asked {
  name?: string;
}

export default async function handle(request: Request): Promise<Response> {
  let name: string | null | undefined = new URL(request.url).searchParams.get("name");
  if (request.method === "POST") {
    try {
      const asked = (await request.json()) as Asked | null;
      name = asked?.name;
    } catch {
      return Response.json({ error: "the body is not JSON" }, { status: 400 });
    }
  }
  console.log(`greeting ${name ?? "nobody in particular"}`);
  return Response.json({ hello: name ?? "world" });
}
