package com.example.sanitize;

import java.util.Map;
import org.jsoup.Jsoup;
import org.jsoup.nodes.Document;
import org.jsoup.safety.Safelist;

/**
 * HTML from strangers in, HTML that is safe to show out: what is not on the list of harmless elements and attributes is
 * taken away. {@code ?keep=} chooses the list.
 */
public final class Handler {
  private static final Document.OutputSettings AS_IT_CAME = new Document.OutputSettings().prettyPrint(false);

  public static Map<String, Object> handle(Map<String, Object> event, Map<String, Object> context) {
    if (!"POST".equals(event.get("method"))) {
      return answer(405, Map.of("Allow", "POST", "Content-Type", "text/plain; charset=utf-8"), "send the HTML by POST\n");
    }
    Map<?, ?> query = (Map<?, ?>) event.get("query");
    Object keep = query.get("keep");
    Safelist list = list(keep == null ? "formatted" : keep.toString());
    if (list == null) {
      return answer(
          400,
          Map.of("Content-Type", "text/plain; charset=utf-8"),
          "keep is \"" + keep + "\"; expected text, formatted or pictures\n");
    }
    // Relative links would lead to wherever the result is shown, so they are taken away with the rest.
    String clean = Jsoup.clean((String) event.get("body"), "", list, AS_IT_CAME);
    return answer(200, Map.of("Content-Type", "text/html; charset=utf-8"), clean);
  }

  /** What may stay, by the name that a query gives it; null for another name. */
  private static Safelist list(String name) {
    switch (name) {
      case "text":
        return Safelist.none();
      case "formatted":
        // Paragraphs, lists, quotes, code and links, which are marked so that search engines do not follow them.
        return Safelist.basic();
      case "pictures":
        return Safelist.relaxed().addEnforcedAttribute("a", "rel", "nofollow");
      default:
        return null;
    }
  }

  private static Map<String, Object> answer(int status, Map<String, String> headers, String body) {
    return Map.of("statusCode", status, "headers", headers, "body", body);
  }

  private Handler() {}
}
