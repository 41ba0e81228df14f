// The same file under Tidegate, under functions-framework, and behind Node's own server (bare.cjs).

exports.handler = (req, res) => {
  res.setHeader("Content-Type", "text/plain; charset=utf-8");
  res.end("hello\n");
};
