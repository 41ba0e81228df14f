"""The Python templates of OpenFaaS, without its images.

Those templates put a handler behind Flask and waitress. Most handlers never
see either: they take an event and return text, JSON or a dict. For these the
same rules are kept here in plain Python (`plain`, `request`, `answers`), so no
package has to be installed and an instance starts in milliseconds. A handler
that uses Flask itself gets the real one (`flask_app`).

Both ways are WSGI applications, made by `template.app`; Tidegate's Python host
serves them, on as many threads as the deployment has calls at once, and
`serve` does where a deployment runs `index.py` as a program of its own.
"""
