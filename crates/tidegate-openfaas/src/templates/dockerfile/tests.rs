//! Dockerfiles and what becomes of them.

#[path = "../../../tests/it/listing.rs"]
mod listing;

use std::fmt::Write as _;

use super::super::prepare;
use super::*;
use crate::BuildConfig;

/// What a folder becomes, as text: its files with their modes, then everything else.
fn of(files: &[(&str, &str)]) -> String {
    with(files, &BuildConfig::default())
}

fn with(files: &[(&str, &str)], config: &BuildConfig) -> String {
    let (root, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, content) in files {
        shared::write(root.path(), name, content).unwrap();
    }
    match prepare(root.path(), config, out.path()) {
        Err(error) => error.to_string(),
        Ok(prepared) => {
            let mut said = listing::of(out.path());
            write!(
                said,
                "{:?}: {:?} for {}, entry {}, {} at once\nenv {:?}\nskips the build: {}",
                prepared.watchdog,
                prepared.process,
                prepared.runtime,
                prepared.entry,
                prepared.concurrency,
                prepared.env,
                prepared.build.skip,
            )
            .unwrap();
            for note in &prepared.notes {
                write!(said, "\nnote: {note}").unwrap();
            }
            said
        }
    }
}

/// A file after the lines that many begin with.
fn after_watchdog(rest: &str) -> String {
    format!(
        "FROM ghcr.io/openfaas/of-watchdog:0.9.11 AS watchdog\nFROM x AS ship\nCOPY --from=watchdog /fwatchdog /usr/bin/fwatchdog\n\
         WORKDIR /home/app\n{rest}"
    )
}

/// What is said of a Dockerfile that cannot be honoured.
fn refused(dockerfile: &str) -> String {
    of(&[("Dockerfile", dockerfile), ("a.txt", ""), ("b/c.py", "")])
}

#[test]
fn the_plainest() {
    insta::assert_snapshot!(of(&[(
        "Dockerfile",
        r#"FROM openfaas/classic-watchdog:0.18.1 as watchdog

FROM alpine:3.9

RUN mkdir -p /home/app

COPY --from=watchdog /fwatchdog /usr/bin/fwatchdog
RUN chmod +x /usr/bin/fwatchdog

# Add non root user
RUN addgroup -S app && adduser app -S -G app
RUN chown app /home/app

WORKDIR /home/app

USER app

ENV fprocess="cat"
# Set to true to see request in function logs
ENV write_debug="false"

EXPOSE 8080

HEALTHCHECK --interval=3s CMD [ -e /tmp/.lock ] || exit 1

CMD ["fwatchdog"]
"#
    )]));
}

#[test]
fn node_with_packages() {
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            r#"# syntax=docker/dockerfile:1
ARG NODE=20
FROM --platform=${TARGETPLATFORM:-linux/amd64} ghcr.io/openfaas/of-watchdog:0.9.11 as watchdog
FROM node:${NODE}-alpine as ship
COPY --from=watchdog /fwatchdog /usr/bin/fwatchdog
RUN chmod +x /usr/bin/fwatchdog && addgroup -S app && adduser app -S -G app
RUN apk --no-cache add curl ca-certificates \
    # between
    && rm -rf /var/cache/apk/*
ENV NPM_CONFIG_LOGLEVEL warn
WORKDIR /root/
WORKDIR /home/app
COPY package*.json ./
RUN npm ci --only=production --no-audit
COPY --chown=app:app index.js lib ./
COPY function function/
RUN chown -R app:app /home/app && chmod 777 /tmp
USER app
ENV cgi_headers="true" fprocess="node index.js" mode=http
ENV upstream_url="http://127.0.0.1:3000"
CMD ["fwatchdog"]
"#
        ),
        (
            "package.json",
            r#"{"dependencies": {"express": "4"}, "scripts": {"build": "tsc", "test": "a"}}"#
        ),
        ("package-lock.json", "{}"),
        ("index.js", "x"),
        ("lib/util.js", "x"),
        ("function/handler.js", "x"),
        ("notes.md", "x"),
    ]));
}

#[test]
fn python_as_a_server_of_its_own() {
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            "FROM python:3.12-slim\nWORKDIR /app\nENV PYTHONPATH=/app/lib:$PYTHONPATH\nCOPY requirements.txt .\n\
             RUN pip install --upgrade pip && pip install --no-cache-dir -r requirements.txt gunicorn==21.2.0\n\
             COPY . .\nEXPOSE 5000\nUSER 1000\nCMD [\"gunicorn\", \"-b\", \"0.0.0.0:8080\", \"app:app\"]\n"
        ),
        ("requirements.txt", "flask"),
        ("app.py", "x"),
        (".dockerignore", "*.md\n"),
        ("notes.md", "x"),
    ]));
}

#[test]
fn a_program_with_a_script_of_the_shell() {
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            "FROM alpine\nARG NAME=server\nARG MODE\nWORKDIR /srv/$NAME\nCOPY --chmod=755 bin/server .\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n\
             CMD [\"./server --say 'it'\\\"s\\\" on $PORT\"]\n"
        ),
        ("bin/server", "x"),
    ]));
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            "FROM scratch\nCOPY server /\nCMD /server serve\n"
        ),
        ("server", "x"),
    ]));
}

#[test]
fn stages_that_only_carry_files() {
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            "FROM ghcr.io/openfaas/of-watchdog:0.10 AS watchdog\nFROM golang:1.22 AS build\nCOPY --from=watchdog /fwatchdog /usr/bin/\n\
             WORKDIR /src\nCOPY . .\nRUN go vet ./...\nFROM build AS unused\nRUN make all\nFROM alpine\nWORKDIR /home/app\n\
             COPY --from=build /usr/bin/fwatchdog .\nCOPY --from=1 /src/static static\nCOPY --from=build /src/run.sh ./\n\
             RUN chmod +x run.sh\nENV fprocess=./run.sh\nCMD [\"./fwatchdog\"]\n"
        ),
        ("static/a.css", "x"),
        ("run.sh", "x"),
    ]));
    insta::assert_snapshot!(of(&[
        (
            "Dockerfile",
            "FROM python:3 AS build\nWORKDIR /b\nCOPY function/requirements.txt .\nRUN pip install --user -r requirements.txt\n\
             FROM python:3-slim\nRUN apt-get update && apt-get install -y --no-install-recommends curl && curl -sSL \
             https://github.com/openfaas/of-watchdog/releases/download/0.9.0/fwatchdog-amd64 > /usr/bin/fwatchdog && chmod +x \
             /usr/bin/fwatchdog\nCOPY --from=build /root/.local /root/.local\nWORKDIR /home/app\nCOPY function function\nCOPY index.py .\n\
             ENV fprocess='python -u index.py'\nCMD fwatchdog\n"
        ),
        ("function/requirements.txt", "six"),
        ("function/handler.py", "x"),
        ("index.py", "x"),
    ]));
}

#[test]
fn interpreters_are_found_wherever_they_stand() {
    for (rest, expected) in [
        ("CMD python a.py", "\"python3 a.py\" for python"),
        (
            "CMD python a.py --at $PORT",
            "\"./tidegate-start\" for python",
        ),
        (
            "CMD exec node a.js > /dev/null",
            "\"./tidegate-start\" for node",
        ),
        (
            "CMD [\"/usr/local/bin/python3\", \"a b\"]",
            "\"./tidegate-start\" for python",
        ),
        (
            "CMD [\"/opt/venv/bin/python\", \"a.py\"]",
            "\"/opt/venv/bin/python a.py\" for executable",
        ),
        (
            "ENTRYPOINT [\"java\", \"-jar\"]\nCMD [\"a.jar\"]",
            "\"java -jar a.jar\" for java",
        ),
        (
            "ENV fprocess='php a.php'\nCMD /usr/bin/fwatchdog",
            "\"php a.php\" for php",
        ),
        (
            "ENV fprocess='uvicorn a:b' mode=http\nCMD fwatchdog",
            "\"python3 -m uvicorn a:b\" for python",
        ),
    ] {
        let text = format!("FROM x\nWORKDIR /home/app\n{rest}\n");
        let said = of(&[("Dockerfile", &text)]);
        assert!(said.contains(expected), "{rest}: {said}");
    }
}

#[test]
fn arguments_of_the_build_win() {
    let mut config = BuildConfig::default();
    config
        .build_args
        .insert("FILE".to_owned(), "b.py".to_owned());
    let files = [
        (
            "Dockerfile",
            "ARG FILE=a.py\nFROM python\nARG FILE\nWORKDIR /home/app\nCOPY ${FILE} main.py\nCMD python main.py\n",
        ),
        ("a.py", "x"),
        ("b.py", "x"),
    ];
    insta::assert_snapshot!(with(&files, &config));
}

#[test]
fn a_handler_folder_of_a_template_with_a_dockerfile() {
    let said = of(&[
        ("template.yml", "language: dockerfile\n"),
        (
            "function/Dockerfile",
            "FROM alpine\nWORKDIR /home/app\nCOPY a .\nCMD ./a\n",
        ),
        ("function/a", "x"),
    ]);
    assert!(said.starts_with("a\nOfWatchdog: \"./a\""), "{said}");
}

#[test]
fn what_cannot_be_honoured_names_its_line() {
    for (rest, expected) in [
        (
            "RUN apk add ffmpeg\n",
            "line 5: RUN apk add ffmpeg cannot be honoured here: system packages are those of this machine, and what ffmpeg \
             brings may not be there; install it here and leave the line out, or put its files into the folder",
        ),
        (
            "RUN echo x && \\\n  make all\n",
            "line 5: RUN echo x && make all cannot be honoured here: nothing of an image is run, so make makes nothing; put \
             what it makes into the folder",
        ),
        (
            "RUN curl -O https://example.com/x\n",
            "line 5: RUN curl -O https://example.com/x cannot be honoured here: nothing is fetched for it; put the file into \
             the folder",
        ),
        (
            "RUN test -z \"$(gofmt -l .)\"\n",
            "line 5: RUN test -z \"$(gofmt -l .)\" cannot be honoured here: what another command prints is not known",
        ),
        (
            "RUN echo x > y\n",
            "line 5: RUN echo x > y cannot be honoured here: the file that its output goes into is not made",
        ),
        (
            "RUN echo x | sh\n",
            "line 5: RUN echo x | sh cannot be honoured here: what is piped into a command is not made",
        ),
        (
            "RUN pip install -r requirements.txt\n",
            "line 5: RUN pip install -r requirements.txt cannot be honoured here: there is no /home/app/requirements.txt yet; \
             COPY it before",
        ),
        (
            "RUN pip install --target=x six\n",
            "line 5: RUN pip install --target=x six cannot be honoured here: --target=x has no counterpart; packages are \
             installed from lists of requirements",
        ),
        (
            "RUN pip install git+https://example.com/x\n",
            "line 5: RUN pip install git+https://example.com/x cannot be honoured here: git+https://example.com/x is not a \
             package by name; packages are installed from lists of requirements",
        ),
        (
            "RUN npm install -g x\n",
            "line 5: RUN npm install -g x cannot be honoured here: programs for all of the machine are not installed",
        ),
        (
            "RUN npm i left-pad\n",
            "line 5: RUN npm i left-pad cannot be honoured here: left-pad is not installed by name; list it in package.json",
        ),
        (
            "COPY a.txt /etc/a.txt\n",
            "line 5: COPY a.txt /etc/a.txt cannot be honoured here: /etc/a.txt is outside of /home/app, the last WORKDIR, which \
             is all that a function has of its own",
        ),
        (
            "COPY gone.txt .\n",
            "line 5: COPY gone.txt . cannot be honoured here: there is no gone.txt in the folder that was sent",
        ),
        (
            "COPY ../../etc/passwd .\n",
            "line 5: COPY ../../etc/passwd . cannot be honoured here: there is no ../../etc/passwd in the folder that was sent",
        ),
        (
            "COPY --from=nginx /x .\n",
            "line 5: COPY --from=nginx /x . cannot be honoured here: files of the image nginx are not fetched; put them into \
             the folder",
        ),
        (
            "ADD https://example.com/x .\n",
            "line 5: ADD https://example.com/x . cannot be honoured here: nothing is fetched for it; put the file into the folder",
        ),
        (
            "SHELL [\"bash\"]\n",
            "line 5: SHELL [\"bash\"] cannot be honoured here: commands are those of /bin/sh",
        ),
        (
            "ENV a=\"x\n",
            "line 5: ENV a=\"x cannot be honoured here: the quote \" is not closed",
        ),
    ] {
        let said = refused(&(after_watchdog(rest) + "ENV fprocess=cat\nCMD [\"fwatchdog\"]\n"));
        assert_eq!(said, format!("Dockerfile {expected}"), "{rest}");
    }
    for (text, expected) in [
        (
            "",
            "Dockerfile line 1:  cannot be honoured here: the Dockerfile is empty; it begins with FROM",
        ),
        (
            "RUN x\n",
            "Dockerfile line 1: RUN x cannot be honoured here: a Dockerfile begins with FROM",
        ),
        (
            "FROM x\nWORKDIR /home/app\nCOPY . .\n",
            "the Dockerfile has neither CMD nor ENTRYPOINT, and what the image x runs is not known; end it with CMD \
             [\"fwatchdog\"], or with the command of an HTTP server on port 8080",
        ),
        (
            "FROM x\nCOPY a.txt /etc/a.txt\nCMD a\n",
            "Dockerfile line 2: COPY a.txt /etc/a.txt cannot be honoured here: /etc/a.txt is outside of the function's folder; \
             name a folder with WORKDIR, such as /home/app, and put the files there",
        ),
        (
            "FROM golang AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o handler .\nFROM alpine\nWORKDIR /home/app\n\
             COPY --from=build /src/handler .\nCMD ./handler\n",
            "Dockerfile line 7: COPY --from=build /src/handler . cannot be honoured here: /src/handler would be made by line 4, \
             RUN go build -o handler .: nothing of an image is run, so go makes nothing; put what it makes into the folder",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn nothing_that_is_read_panics() {
    let text = "# escape=`\nARG A=1\nFROM a:${A:-x} AS b\nENV c=\"d $A\" e='f'\nRUN g && h || i | j; pip install -r 'k' > l 2>&1\n\
                COPY --from=b [\"m\", \"n\"]\nADD o* ./\nWORKDIR ../\nENTRYPOINT [\"p\"]\nCMD q \\\n r\n";
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        refused(&text[..end]);
        refused(&text[end..]);
    }
}
