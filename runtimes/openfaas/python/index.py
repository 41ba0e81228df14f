"""Calls function/handler.py as OpenFaaS's template @LANGUAGE@ does: an entry for Tidegate's host, and a program by itself."""

from tidegate_openfaas import template

app = template.app("@LANGUAGE@", uses_flask=@FLASK@)

if __name__ == "__main__":
    from tidegate_openfaas import serve

    serve.forever(app)
