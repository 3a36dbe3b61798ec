// SPDX-License-Identifier: Apache-2.0

/**
 * Thread.run > Chain.run > chainA > chainB > burn in a thread named "burner". Before it, the same is called until it is compiled; then
 * "ready" is printed, and a line is waited for, so that a perf map can be written in between.
 */
public class Chain implements Runnable {
	static volatile long sink;
	final double seconds;
	double burned;

	Chain(double seconds) {
		this.seconds = seconds;
	}

	static void burn(int rounds) {
		long x = rounds;
		for (int i = 0; i < rounds; i++)
			x = x * 6364136223846793005L + i;
		sink = x;
	}

	static void chainB(int rounds) {
		burn(rounds);
		sink++;
	}

	static void chainA(int rounds) {
		chainB(rounds);
		sink++;
	}

	static double cpu() {
		return java.lang.management.ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() / 1e9;
	}

	@Override
	public void run() {
		double begin = cpu();
		while (cpu() - begin < seconds)
			chainA(4000000);
		burned = cpu() - begin;
	}

	public static void main(String[] arguments) throws Exception {
		for (int i = 0; i < 30000; i++)
			chainA(1000);
		System.out.println("ready");
		System.in.read();
		Chain chain = new Chain(Double.parseDouble(arguments[0]));
		Thread thread = new Thread(chain, "burner");
		thread.start();
		thread.join();
		System.out.printf(java.util.Locale.ROOT, "burned %.6f%n", chain.burned);
	}
}
