package com.example.sanitize;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;

final class HandlerTest {
  private static Map<String, Object> call(String body, Map<String, String> query) {
    return Handler.handle(Map.of("method", "POST", "query", query, "body", body), Map.of());
  }

  private static String clean(String body, String... keep) {
    Map<String, Object> answer = call(body, keep.length == 0 ? Map.of() : Map.of("keep", keep[0]));
    assertEquals(200, answer.get("statusCode"));
    return (String) answer.get("body");
  }

  @Test
  void theSampleKeepsItsWordsAndLosesItsTraps() throws IOException {
    String clean = clean(Files.readString(Path.of("request/comment.html")));
    assertTrue(clean.contains("<b>Spring tide</b> tonight"), clean);
    assertTrue(clean.contains("<a href=\"https://harbour.example/tides\" rel=\"nofollow\">the table</a>"), clean);
    for (String trap : new String[] {"script", "onclick", "onerror", "javascript:", "<img", "style", "iframe", "stolen"}) {
      assertFalse(clean.contains(trap), trap + " is in " + clean);
    }
  }

  @Test
  void picturesStayWhereTheyAreAskedFor() {
    String picture = "<img src=\"https://a.example/b.png\" onerror=\"x()\">";
    assertEquals("<img src=\"https://a.example/b.png\">", clean(picture, "pictures"));
    assertEquals("", clean(picture));
  }

  @Test
  void textAlone() {
    assertEquals("a &amp; b", clean("<p>a &amp; <b>b</b></p>", "text"));
  }

  @Test
  void brokenHtmlIsClosed() {
    assertEquals("<b>a<i>b</i></b>", clean("<b>a<i>b"));
    assertEquals("", clean(""));
  }

  @Test
  void otherQuestionsAreRefused() {
    Map<String, Object> answer = call("x", Map.of("keep", "all"));
    assertEquals(400, answer.get("statusCode"));
    assertTrue(((String) answer.get("body")).contains("\"all\""));
    assertEquals(405, Handler.handle(Map.of("method", "GET", "query", Map.of(), "body", ""), Map.of()).get("statusCode"));
  }
}
