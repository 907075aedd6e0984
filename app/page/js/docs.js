// Shows /openapi.json with Swagger UI, without its validator, which is on another host.
const key = sessionStorage.getItem("cifar10-key"); // see key.js
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true,
  requestInterceptor(request) {
    if (key) request.headers.Authorization ??= `Bearer ${key}`;
    return request;
  },
});
