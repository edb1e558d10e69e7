// values.mjs - private values that look true, with the sums that make them so, from a stream of random numbers.

// rand: numbers in [0, 1), as random() of node.mjs gives them.
export function valuesFrom(rand) {
  const below = (k) => Math.floor(rand() * k);
  return { below, digits: (k) => Array.from({ length: k }, () => below(10)).join('') };
}

// A card's number: the body and its check digit (ISO/IEC 7812-1).
export function luhn(body) {
  let sum = 0;
  [...body].reverse().forEach((d, i) => {
    const v = Number(d) * (i % 2 ? 1 : 2);
    sum += v > 9 ? v - 9 : v;
  });
  return body + ((10 - (sum % 10)) % 10);
}

// A German account's number with its check digits (ISO 13616).
export const iban = (bban) => `DE${String(98n - (BigInt(`${bban}131400`) % 97n)).padStart(2, '0')}${bban}`;
