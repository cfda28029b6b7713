// Hot loops for both compilers of the JVM, strings, collections, exceptions, threads, big numbers, garbage.
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.regex.*;
import java.util.stream.*;

public class Hot {
  static int mix(int n) {
    int h = 0x811c9dc5;
    for (int i = 0; i < n; i++) h = (h ^ (i & 255)) * 16777619 + (h >>> 13);
    return h;
  }

  static long longs(int n) {
    long x = 88172645463325252L, s = 0;
    for (int i = 0; i < n; i++) {
      x ^= x << 13;
      x ^= x >>> 7;
      x ^= x << 17;
      s += x / ((x >> 40) | 1) + x % ((x >> 33) | 1) + Long.bitCount(x) + Long.numberOfTrailingZeros(x) + Math.multiplyHigh(x, s);
    }
    return s;
  }

  static double floats(int n) {
    double s = 0;
    float f = 1;
    for (int i = 1; i < n; i++) {
      s += StrictMath.sin(i) / Math.sqrt(i) + StrictMath.pow(i, 0.37) + StrictMath.log(i) - StrictMath.atan2(i, 3) + Math.rint(i * 0.3);
      f = f * 1.0001f + (float) (i % 7) / 3;
      s += (int) f + (long) (s * 1e-3);
    }
    return s + f;
  }

  static int[][] multiply(int[][] a, int[][] b) {
    int n = a.length;
    int[][] c = new int[n][n];
    for (int i = 0; i < n; i++)
      for (int k = 0; k < n; k++)
        for (int j = 0; j < n; j++) c[i][j] += a[i][k] * b[k][j];
    return c;
  }

  sealed interface Shape permits Square, Circle, Point {}
  record Square(int side) implements Shape {}
  record Circle(double radius) implements Shape {}
  record Point() implements Shape {}

  static double area(Shape s) {
    if (s instanceof Square q) return q.side() * (double) q.side();
    if (s instanceof Circle c) return Math.PI * c.radius() * c.radius();
    return 0;
  }

  static int depth(int n) {
    return 1 + depth(n + 1);
  }

  public static void main(String[] args) throws Exception {
    int scale = args.length > 0 ? Integer.parseInt(args[0]) : 1;
    System.out.println("ints " + mix(300000 * scale) + " longs " + longs(60000 * scale) + " floats " + floats(20000 * scale));

    int[][] m = new int[60][60];
    for (int i = 0; i < 60; i++)
      for (int j = 0; j < 60; j++) m[i][j] = i * 31 + j * 17;
    int[][] p = m;
    for (int i = 0; i < 4 * scale; i++) p = multiply(p, m);
    System.out.println("matrix " + Arrays.deepHashCode(p));

    Shape[] shapes = {new Square(3), new Circle(1.5), new Point()};
    double total = 0;
    for (int i = 0; i < 30000 * scale; i++) total += area(shapes[i % 3]);
    System.out.println("shapes " + total);

    StringBuilder text = new StringBuilder();
    for (int i = 0; i < 4000; i++) text.append(Integer.toString(i * 7919 % 65521, 36)).append('-').append(i).append(' ');
    MessageDigest sha = MessageDigest.getInstance("SHA-256");
    System.out.println("text " + text.toString().hashCode() + " " + HexFormat.of().formatHex(sha.digest(text.toString().getBytes("UTF-16"))));
    Matcher match = Pattern.compile("\\b([a-z]+)(\\d+)[a-z]?-\\d*7\\b").matcher(text);
    int found = 0;
    while (match.find()) found += match.group(2).length();
    System.out.println("regex " + found);

    Map<String, List<Integer>> groups = IntStream.range(0, 20000).boxed().collect(Collectors.groupingBy(i -> "g" + i * 7919 % 101, TreeMap::new, Collectors.toList()));
    System.out.println("streams " + groups.values().stream().mapToInt(List::hashCode).sum() + " " +
        IntStream.range(0, 50000).parallel().mapToLong(i -> (long) i * i % 1009).sum());

    BigInteger big = BigInteger.TWO.pow(521).subtract(BigInteger.ONE);
    System.out.println("big " + big.isProbablePrime(5) + " " + BigInteger.valueOf(3).modPow(big.shiftRight(400), big).hashCode() + " " +
        new BigDecimal(2).sqrt(new MathContext(80)) + " " + String.format("%.17g %a %s", Math.E, 0.1, 1e23));

    int caught = 0;
    Object[] objects = {"x", 1, null, new int[0]};
    for (int i = 0; i < 4000; i++) {
      try {
        switch (i % 4) {
          case 0 -> caught += ((String) objects[1 + i % 2 * 0]).length();
          case 1 -> caught += objects[2].hashCode();
          case 2 -> caught += ((int[]) objects[3])[i];
          default -> caught += i / (i % 4 - 3);
        }
      } catch (ClassCastException e) {
        caught += 1;
      } catch (NullPointerException e) {
        caught += 10;
      } catch (ArrayIndexOutOfBoundsException e) {
        caught += 100;
      } catch (ArithmeticException e) {
        caught += 1000;
      }
    }
    try {
      depth(0);
    } catch (StackOverflowError e) {
      caught += 1;
    }
    System.out.println("exceptions " + caught);

    AtomicLong atomic = new AtomicLong();
    LongAdder adder = new LongAdder();
    long[] guarded = {0};
    ExecutorService pool = Executors.newFixedThreadPool(4);
    List<Future<Integer>> futures = new ArrayList<>();
    for (int t = 0; t < 8; t++) {
      int mine = t;
      futures.add(pool.submit(() -> {
        for (int i = 0; i < 3000; i++) {
          atomic.addAndGet(i);
          adder.add(mine);
          synchronized (guarded) {
            guarded[0] += i ^ mine;
          }
        }
        return mix(5000 * mine);
      }));
    }
    int joined = 0;
    for (Future<Integer> f : futures) joined = joined * 31 + f.get();
    pool.shutdown();
    System.out.println("threads " + joined + " " + atomic + " " + adder + " " + guarded[0]);

    long kept = 0;
    List<byte[]> garbage = new ArrayList<>();
    for (int i = 0; i < 20000 * scale; i++) {
      garbage.add(new byte[1000 + i % 100]);
      if (garbage.size() > 2000) {
        kept += garbage.stream().mapToLong(b -> b.length).sum();
        garbage.clear();
      }
    }
    System.gc();
    System.out.println("garbage " + kept);
  }
}
