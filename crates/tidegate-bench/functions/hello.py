"""The same file under Tidegate and under functions-framework, which passes the request alone."""


def handler(request, context=None):
    return "hello\n"
