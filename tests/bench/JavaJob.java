// SPDX-License-Identifier: Apache-2.0

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A job of usual parts (sorting, text, hash maps, arithmetic) for as many seconds as are asked for; no two of its methods are alike. */
public class JavaJob {
	static long sink;

	static void sorts() {
		List<Integer> numbers = new ArrayList<>();
		int x = 1;
		for (int i = 0; i < 20000; i++)
			numbers.add(x = x * 1103515245 + 12345);
		Collections.sort(numbers);
		sink += numbers.get(7);
	}

	static void counts() {
		Map<String, Integer> counts = new HashMap<>();
		for (int i = 0; i < 20000; i++)
			counts.merge("key" + i % 977, 1, Integer::sum);
		sink += counts.size();
	}

	static void sieve() {
		boolean[] composite = new boolean[300000];
		for (int i = 2; i < composite.length; i++)
			if (!composite[i])
				for (int j = 2 * i; j < composite.length; j += i)
					composite[j] = true;
		sink += composite[9] ? 1 : 0;
	}

	static void multiplies() {
		double[][] a = new double[90][90], b = new double[90][90];
		for (int i = 0; i < 90; i++)
			for (int j = 0; j < 90; j++)
				for (int k = 0; k < 90; k++)
					b[i][j] += (a[i][k] + 1) * (a[k][j] + 2);
		sink += (long) b[3][4];
	}

	public static void main(String[] arguments) {
		long end = System.nanoTime() + (long) (Double.parseDouble(arguments[0]) * 1e9);
		while (System.nanoTime() < end) {
			sorts();
			counts();
			sieve();
			multiplies();
		}
	}
}
