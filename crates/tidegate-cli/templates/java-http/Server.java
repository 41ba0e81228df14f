import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** Greets whoever is named: an HTTP server on $PORT. */
public final class Server {
  /** Longest name in bytes. */
  private static final int MAX = 1024;

  public static void main(String[] args) throws IOException {
    int port = Integer.parseInt(System.getenv("PORT"));
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    server.createContext("/", Server::greet);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
  }

  private static void greet(HttpExchange exchange) throws IOException {
    String name = new String(exchange.getRequestBody().readNBytes(MAX), StandardCharsets.UTF_8).trim();
    byte[] body = ("hello, " + (name.isEmpty() ? "world" : name) + "\n").getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
    exchange.sendResponseHeaders(200, body.length);
    try (OutputStream out = exchange.getResponseBody()) {
      out.write(body);
    }
  }
}
