"""Greets whoever is named."""


def handler(event, context):
    if event.method == "POST":
        try:
            asked = event.json()
        except ValueError:
            return {"error": "the body is not JSON"}, 400
        name = asked.get("name") if isinstance(asked, dict) else None
    else:
        name = event.query.get("name")
    context.log.info("greeting %s", name or "nobody in particular")
    return {"hello": name or "world"}
