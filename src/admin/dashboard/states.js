// How the states of circuits and endpoints are shown: as a shape and a colour, and as a word.

/** Of an endpoint. */
export function endpointState(endpoint) {
  if (endpoint.is_drained) return ["off", "drained"];
  switch (endpoint.state) {
    case "healthy":
      return ["good", "healthy"];
    case "ejected":
      return ["warn", "ejected"];
    case "unhealthy":
      return ["bad", "unhealthy"];
    default:
      return ["off", String(endpoint.state ?? "unknown").replaceAll("_", " ")];
  }
}

/** Of a circuit. */
export function circuitState(service) {
  const forced = String(service.circuit_is ?? "automatic").startsWith("forced") ? ", by hand" : "";
  switch (service.circuit) {
    case "open":
      return ["bad", `circuit open${forced}`];
    case "half_open":
      return ["warn", `circuit half open${forced}`];
    default:
      return ["good", `circuit closed${forced}`];
  }
}

/** Of a service with its endpoints: the state of those that can't help. */
export function serviceState(service) {
  const [circuit] = circuitState(service);
  const states = (service.endpoints ?? []).map((it) => endpointState(it)[0]);
  if (circuit !== "good") return circuit;
  if (states.length > 0 && states.every((it) => it !== "good")) return "bad";
  return states.some((it) => it !== "good") ? "warn" : "good";
}
