// Shows /openapi.json with Swagger UI, without its validator, which is on another host.
const key = sessionStorage.getItem("cifar10-key"); // see key.js
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches); // Swagger UI's own class

dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true,
  defaultModelsExpandDepth: -1, // no list of schemas: each endpoint shows its own
  syntaxHighlight: false, // its colours are too faint
  requestInterceptor(request) {
    if (key) request.headers.Authorization ??= `Bearer ${key}`;
    return request;
  },
});
