package dev.tidegate.openfaas;

import com.openfaas.function.Handler;
import io.vertx.core.Vertx;
import io.vertx.ext.web.Router;
import io.vertx.ext.web.handler.BodyHandler;
import io.vertx.ext.web.handler.StaticHandler;

/** Serves the function's handler, or the files in {@code webroot} of its resources, where the watchdog calls. */
public final class VertxMain {
  private static final int PORT = 8082;

  private VertxMain() {}

  /** Serves until the process is ended. */
  public static void main(String[] args) {
    Vertx vertx = Vertx.vertx();
    Router router = Router.router(vertx);
    if (Boolean.parseBoolean(System.getenv("FRONTAPP"))) {
      router.route().handler(StaticHandler.create());
    } else {
      // Uploaded files need a folder that can be written to.
      router.route().handler(BodyHandler.create("/tmp/file-uploads"));
      router.route().handler(new Handler());
    }
    vertx.createHttpServer().requestHandler(router).listen(PORT);
  }
}
