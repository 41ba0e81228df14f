package dev.tidegate.host;

import java.util.ArrayList;
import java.util.List;

/** An answer with a status and header fields of its own. The body is whatever a handler may return alone. */
public final class Response {
  final Object body;
  final int status;
  final List<String[]> fields = new ArrayList<String[]>();

  public Response(Object body) {
    this(body, 200);
  }

  public Response(Object body, int status) {
    this.body = body;
    this.status = status;
  }

  /** Adds a header field; a repeated name repeats the field. */
  public Response header(String name, String value) {
    fields.add(new String[] {name, value});
    return this;
  }
}
