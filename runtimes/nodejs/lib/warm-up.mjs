export default { fetch: async (request) => new Response(`${(await request.json()) && new URL(request.url).pathname.slice(1)}`) };
