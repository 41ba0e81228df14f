package dev.tidegate.host;

import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** A loaded function: a method and what it is called on. */
final class Function {
  /** Names under which a handler is found when none is given. */
  private static final String[] NAMES = {"handle", "handler"};

  private final Method method;
  private final Object target;

  private Function(Method method, Object target) {
    this.method = method;
    this.target = target;
  }

  static Function load(Config config) throws Throwable {
    String named = config.handler;
    String className = named;
    String methodName = null;
    int colons = named == null ? -1 : named.indexOf("::");
    if (colons >= 0) {
      className = named.substring(0, colons);
      methodName = named.substring(colons + 2);
    }
    String entry = config.name();
    if (className == null || className.isEmpty()) {
      if (!entry.endsWith(".class")) {
        throw new LoadFailed("a jar does not say which of its classes is the handler; name it as Class or Class::method");
      }
      className = entry.substring(0, entry.length() - ".class".length()).replace('/', '.');
    }
    Class<?> type = find(className);
    Method method = choose(type, methodName);
    Object target = null;
    if (!Modifier.isStatic(method.getModifiers())) {
      target = make(type);
    }
    method.setAccessible(true);
    return new Function(method, target);
  }

  private static Class<?> find(String name) throws Throwable {
    try {
      return Class.forName(name, true, Function.class.getClassLoader());
    } catch (ClassNotFoundException missing) {
      throw new LoadFailed("there is no class " + name + " in the bundle, its lib/*.jar or its dependencies");
    }
  }

  /** The method of this name that takes most of (event, context); bridges of generics are not meant. */
  private static Method choose(Class<?> type, String named) throws LoadFailed {
    Method best = null;
    Set<String> others = new LinkedHashSet<String>();
    for (Class<?> each = type; each != null && each != Object.class; each = each.getSuperclass()) {
      for (Method method : each.getDeclaredMethods()) {
        if (method.isBridge() || method.isSynthetic()) {
          continue;
        }
        String name = method.getName();
        boolean meant = named != null ? name.equals(named) : name.equals(NAMES[0]) || name.equals(NAMES[1]);
        if (!meant) {
          if (others.size() < 8) {
            others.add(name);
          }
        } else if (best == null || method.getParameterCount() > best.getParameterCount() && method.getParameterCount() <= 2) {
          best = method;
        }
      }
    }
    if (best == null) {
      String wanted = named != null ? named : NAMES[0];
      String hint = others.isEmpty() ? "" : "; it has " + String.join(", ", others);
      if (others.contains("main")) {
        hint = "; it has a main: a program that serves $PORT is the contract http";
      }
      throw new LoadFailed("class " + type.getName() + " has no method " + wanted + "(event, context)" + hint);
    }
    if (best.getParameterCount() > 2) {
      throw new LoadFailed(best.getName() + " of " + type.getName() + " takes " + best.getParameterCount()
          + " parameters, expected (event, context), (event) or none");
    }
    for (Class<?> parameter : best.getParameterTypes()) {
      if (!accepts(parameter)) {
        throw new LoadFailed(best.getName() + " of " + type.getName() + " takes a " + parameter.getName()
            + ", expected Event, Map, String, byte[], InputStream or Context");
      }
    }
    return best;
  }

  private static boolean accepts(Class<?> type) {
    return type.isAssignableFrom(Event.class) || type == Map.class || type == String.class || type == byte[].class
        || type == InputStream.class || type == Context.class;
  }

  private static Object make(Class<?> type) throws Throwable {
    Constructor<?> constructor;
    try {
      constructor = type.getDeclaredConstructor();
    } catch (NoSuchMethodException missing) {
      throw new LoadFailed("class " + type.getName() + " has no constructor without parameters; add one, or make the handler static");
    }
    if (Modifier.isAbstract(type.getModifiers())) {
      throw new LoadFailed("class " + type.getName() + " is abstract; make the handler static");
    }
    constructor.setAccessible(true);
    try {
      return constructor.newInstance();
    } catch (InvocationTargetException failure) {
      throw failure.getCause();
    }
  }

  /** Calls it with what its parameters ask for. */
  Object call(Event event, Context context) throws Throwable {
    Class<?>[] types = method.getParameterTypes();
    Object[] arguments = new Object[types.length];
    for (int i = 0; i < types.length; i++) {
      arguments[i] = argument(types[i], i, event, context);
    }
    try {
      return method.invoke(target, arguments);
    } catch (InvocationTargetException failure) {
      throw failure.getCause();
    }
  }

  private static Object argument(Class<?> type, int at, Event event, Context context) throws IOException {
    if (type == Context.class || at == 1 && type == Object.class) {
      return context;
    }
    if (type == Map.class) {
      return at == 1 ? context.map() : event.map();
    }
    if (type == String.class) {
      return event.text();
    }
    if (type == byte[].class) {
      return event.body();
    }
    if (type == InputStream.class) {
      return event.stream();
    }
    return event;
  }
}
