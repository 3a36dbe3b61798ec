// SPDX-License-Identifier: Apache-2.0
// (root of node) > main > chainA > chainB > burn. argv: seconds.
'use strict';
let sink = 0;

function burn(rounds) {
  let x = rounds | 0;
  for (let i = 0; i < rounds; i++) x = (Math.imul(x, 1103515245) + i) | 0;
  sink = x;
}

function chainB(rounds) {
  burn(rounds);
  sink++;
}

function chainA(rounds) {
  chainB(rounds);
  sink++;
}

function seconds() {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
}

function main(wanted) {
  const begin = seconds();
  while (seconds() - begin < wanted) chainA(4000000);
  console.log(`burned ${(seconds() - begin).toFixed(6)}`);
}

main(Number(process.argv[2]));
