// A running ComfyUI's web frontend in headless Chromium, for the scripts beside this file.
// playwright-core comes from NODE_PATH.
import { createRequire } from 'node:module'
import fs from 'node:fs'
import path from 'node:path'

const { chromium } = createRequire(path.join(process.cwd(), 'x.js'))('playwright-core')
const TYPES = { '.mp4': 'video/mp4', '.webm': 'video/webm', '.json': 'application/json' }

// What the frontend draws nodes with: on its canvas, or as elements of the page ("Nodes 2.0").
export const RENDERERS = { canvas: false, vue: true }

// Open the frontend, hand the page and a report to `act`, always close the browser; prints the report as JSON.
// report.errors gets what the console, the page or our server complained of since the start was over.
export async function visit(url, executablePath, act, { width = 1600, height = 1000, renderer = 'canvas' } = {}) {
  const report = { errors: [], outside: [] }
  const settings = { 'Comfy.VueNodes.Enabled': RENDERERS[renderer], 'Comfy.RightSidePanel.IsOpen': false } // as at a first start
  for (const [name, value] of Object.entries(settings)) {
    const body = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(value) }
    await fetch(new URL(`/settings/${name}`, url), body)
  }
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
  try {
    const page = await browser.newPage({ viewport: { width, height } })
    page.setDefaultTimeout(300000)
    const host = new URL(url).host
    await page.route((target) => target.host !== host && /^http/.test(target.protocol), (route) => {
      report.outside.push(route.request().url())
      return route.abort()
    })
    const ours = (where) => !where || new URL(where, url).host === host
    page.on('pageerror', (error) => report.errors.push(String(error)))
    page.on('response', (answer) => answer.status() >= 400 && ours(answer.url()) && report.errors.push(`${answer.status()} ${answer.url()}`))
    page.on('console', (message) => {
      // what follows from a refused look-up outside is not about the workflow
      const refused = /Content Security Policy|ERR_FAILED|Failed to load resource/.test(message.text())
      if (message.type() === 'error' && !refused) report.errors.push(message.text().slice(0, 500))
    })
    await page.goto(url)
    await page.waitForFunction(() => window.app?.extensionManager && window.app.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50)
    await page.waitForTimeout(1500)
    report.errors.length = 0 // what a fresh profile's start logs
    await act(page, report)
  } finally {
    await browser.close()
  }
  console.log(JSON.stringify(report))
}

// Drop a file on the canvas, as from a file manager, and wait for our nodes.
export async function drop(page, file) {
  await page.evaluate(([content, name, type]) => {
    window.app.graph.clear() // the frontend begins with a workflow of its own
    const data = new DataTransfer()
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
    data.items.add(new File([bytes], name, { type }))
    const canvas = document.querySelector('#graph-canvas')
    for (const kind of ['dragenter', 'dragover', 'drop']) {
      canvas.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data, clientX: 800, clientY: 700 }))
    }
  }, [fs.readFileSync(file, 'base64'), path.basename(file), TYPES[path.extname(file)]])
  await page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type.startsWith('FusionFrames_')))
  await page.waitForTimeout(1000)
}

// What the page made of the graph on it: evaluated in the page.
export function graphReport() {
  const { nodes } = window.app.graph
  const choices = (widget, node) => (typeof widget.options.values === 'function' ? widget.options.values(widget, node) : widget.options.values)
  const isWrong = (widget, node) =>
    (widget.type === 'combo' && Array.isArray(choices(widget, node)) && !choices(widget, node).includes(widget.value)) ||
    (widget.type === 'number' && !(widget.value >= widget.options.min && widget.value <= widget.options.max)) ||
    (widget.type === 'toggle' && typeof widget.value !== 'boolean')
  const declared = nodes.flatMap((node) => node.properties?.models ?? []).map((model) => model.name)
  const linked = (node, name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null)
  const required = (node, name) => name in (node.constructor.nodeData?.input?.required ?? {})
  return {
    nodes: nodes.map((node) => node.type),
    links: window.app.graph.links.size ?? Object.keys(window.app.graph.links).length,
    missing: nodes.map((node) => node.type).filter((type) => !(type in window.LiteGraph.registered_node_types)),
    deprecated: nodes.filter((node) => node.constructor.nodeData?.deprecated).map((node) => node.type),
    dialogs: [...document.querySelectorAll('.p-dialog, .p-toast-message-error')].map((element) => element.innerText),
    red: nodes.filter((node) => node.has_errors).map((node) => node.type),
    declared, // model files that the workflow names, for the missing-models dialog
    wrong: nodes.flatMap((node) => (node.widgets ?? [])
      .filter((widget) => !linked(node, widget.name) && isWrong(widget, node) && !declared.includes(widget.value))
      .map((widget) => `${node.type}.${widget.name}: ${widget.value}`)),
    open: nodes.flatMap((node) => (node.inputs ?? [])
      .filter((input) => input.link == null && !input.widget && required(node, input.name)).map((input) => `${node.type}.${input.name}`))
  }
}

// A picture of the whole graph.
export async function picture(page, file) {
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView'))
  await page.waitForTimeout(800)
  await page.screenshot({ path: file })
}
