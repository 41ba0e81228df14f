def handle(event, context):
    return {"statusCode": 200, "body": "hello\n", "headers": {"Content-Type": "text/plain"}}
